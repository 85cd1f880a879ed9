//! `POST /supervisor/deploy`: an uploaded package becomes an agent, or replaces the one of its name.

use std::convert::Infallible;
use std::io::Write as _;
use std::str::FromStr as _;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::multipart::Field;
use axum::extract::multipart::MultipartRejection;
use axum::extract::{Multipart, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use par_lifecycle::{Beside, Release};
use par_model::api::{DeployEvent, DeployOptions, Deployed, Detail};
use par_model::{AgentId, ProcessId};
use par_package::Package;
use par_store::Secrets;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::intake::IntakeError;
use super::network;
use super::outcome::{Outcome, outcome_of};
use super::refusal::ApiError;
use super::spawn::{check_env, check_options, check_package_id, refused};
use super::text_field::{broken, form, text_of};
use super::{Api, Shared};
use crate::catalog::{Made, with_roles_of};
use crate::snapshot::traceback;

/// Events that may wait for a slow reader; progress beyond that is left out.
const WAITING_EVENTS: usize = 64;

/// What is uploaded, for the description of the API.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "described, and read field by field")]
pub(super) struct Upload {
    options: DeployOptions,
    /// The bytes of the APKG.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Takes a package in and answers when its agent is ready, or has failed. With `Accept: application/x-ndjson` every
/// step is a line of its own.
#[utoipa::path(
    post, path = "/supervisor/deploy",
    request_body(content = Upload, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = DeployEvent),
        (status = 400, description = "The package was refused", body = Detail),
        (status = 413, description = "The package is too large", body = Detail),
        (status = 422, description = "A field is missing or wrong, or the agent did not start: then it is a `DeployEvent` that failed", body = Detail),
        (status = 503, description = "No port is free", body = Detail),
    )
)]
pub(super) async fn deploy(
    State(api): Shared,
    headers: HeaderMap,
    upload: Result<Multipart, MultipartRejection>,
) -> Result<Response, ApiError> {
    let (options, package) = receive(&api, form(upload)?).await?;
    let canary_percent = options.canary_percent;
    let beside = beside(canary_percent)?;
    let mut options = options;
    let grants = std::mem::take(&mut options.grant_network);
    network::ask(&mut options.options, &package.manifest);
    let made = made_of(options, &package)?;
    network::granted(&api, &made.agent, grants).await?;
    let mut warnings = package.warnings;
    warnings.extend(network::warnings(&api, &made.agent, &made.options));
    warnings.extend(made.warnings(api.groups.why_not()));
    let checked = DeployEvent::Checked {
        package_id: made.package_id.clone(),
        package_digest: made.digest.to_string(),
        warnings: warnings.clone(),
    };
    let deployed = Deployed {
        agent_id: made.agent.to_string(),
        process_id: ProcessId::of(made.agent.clone()).to_string(),
        package_id: made.package_id.clone(),
        package_digest: made.digest.to_string(),
        port: 0,
        grpc_port: 0,
        invoke_path: format!("/agents/{}/invoke", made.agent),
        release: 0,
        canary_percent,
        warnings,
    };
    let agent = made.agent.clone();
    let release = api.control.deploy(made, beside).await?;
    let deployed = Deployed {
        release: release.0,
        ..deployed
    };
    let (events_in, events) = mpsc::channel(WAITING_EVENTS);
    let told = tell(Arc::clone(&api), agent, release, deployed, events_in);
    let as_lines = headers
        .get(ACCEPT)
        .is_some_and(|accept| accept.as_bytes().starts_with(LINES.as_bytes()));
    // Goes on when whoever asked has left: the deployment holds all the same.
    let telling = tokio::spawn(told);
    if as_lines {
        return Ok(lines(checked, events));
    }
    drop(events);
    let last = telling.await.map_err(|error| ApiError::internal(&error))?;
    Ok((status_of(&last), Json(last)).into_response())
}

/// How the release takes its place.
fn beside(canary_percent: Option<f64>) -> Result<Beside, ApiError> {
    let Some(percent) = canary_percent else {
        return Ok(Beside::Roll);
    };
    let permille = (percent * 10.0).round();
    if !(1.0..=999.0).contains(&permille) {
        let words = format!("canary_percent: {percent} is not between 0.1 and 99.9");
        return Err(ApiError::wrong_field(words));
    }
    Ok(Beside::Canary {
        permille: permille as u16,
    })
}

fn check_secrets(options: &DeployOptions) -> Result<(), ApiError> {
    check_env("secrets", &options.secrets)?;
    let mut both = options.env_vars.keys();
    match both.find(|name| options.secrets.contains_key(*name)) {
        Some(name) => Err(ApiError::wrong_field(format!(
            "secrets.{name}: it is in env_vars, too"
        ))),
        None => Ok(()),
    }
}

const LINES: &str = "application/x-ndjson";

fn made_of(options: DeployOptions, package: &Package) -> Result<Made, ApiError> {
    check_options(&options.options)?;
    check_env("env_vars", &options.env_vars)?;
    check_secrets(&options)?;
    check_package_id(options.package_id.as_deref().unwrap_or_default())?;
    let named = options
        .agent_id
        .unwrap_or_else(|| package.manifest.name.to_string());
    let agent = AgentId::from_str(&named)
        .map_err(|error| ApiError::wrong_field(format!("agent_id: {error}")))?;
    Ok(Made {
        agent,
        package_id: options.package_id.unwrap_or_else(|| package.label()),
        digest: package.digest.clone(),
        package: package.root.clone(),
        env: options.env_vars,
        secrets: Secrets(options.secrets),
        options: with_roles_of(options.options, package),
        note: None,
        unusable: None,
    })
}

/// Reads the two fields of an upload; the file goes to disk as it comes.
async fn receive(api: &Api, mut upload: Multipart) -> Result<(DeployOptions, Package), ApiError> {
    let mut options = DeployOptions::default();
    let mut package = None;
    while let Some(field) = upload.next_field().await.map_err(broken)? {
        match field.name() {
            Some("options") => {
                options = read_options(&text_of(field).await?)?;
            }
            Some("file") => package = Some(take_in(api, field).await?.0),
            _ => {
                return Err(ApiError::wrong_field(
                    "an upload has the fields `options` and `file`",
                ));
            }
        }
    }
    let package = package.ok_or_else(|| ApiError::wrong_field("file: the package is missing"))?;
    Ok((options, package))
}

fn read_options(text: &[u8]) -> Result<DeployOptions, ApiError> {
    // A list would be taken for the fields in their order.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::wrong_field("options: not a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        ApiError::wrong_field(format!("options.{}: {}", error.path(), error.inner()))
    })
}

/// Writes an upload to disk as it comes, and takes it in. Returns its size in bytes too.
pub(super) async fn take_in(api: &Api, mut field: Field<'_>) -> Result<(Package, u64), ApiError> {
    let limit = api.intake.largest();
    let mut file = api
        .intake
        .upload()
        .map_err(|error| ApiError::internal(&error))?;
    let mut length = 0;
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        length += piece.len() as u64;
        if length > limit {
            return Err(refused(IntakeError::TooLarge { limit }));
        }
        file = written(file, piece)
            .await
            .map_err(|error| ApiError::internal(&error))?;
    }
    let package = api
        .intake
        .admit_in_the_background(file.path().to_owned())
        .await;
    Ok((package.map_err(refused)?, length))
}

async fn written(mut file: NamedTempFile, piece: Bytes) -> std::io::Result<NamedTempFile> {
    let writing = tokio::task::spawn_blocking(move || file.write_all(&piece).map(|()| file));
    writing.await.map_err(std::io::Error::other)?
}

/// Waits for the outcome and says it last; returns it too.
async fn tell(
    api: Arc<Api>,
    agent: AgentId,
    release: Release,
    deployed: Deployed,
    events: mpsc::Sender<DeployEvent>,
) -> DeployEvent {
    let progress = |message: &str| {
        // Nobody may be listening, and a slow listener gets less of it.
        let _left_out = events.try_send(DeployEvent::Progress {
            message: message.to_owned(),
        });
    };
    let last = match outcome_of(&api.control, &agent, release, progress).await {
        Outcome::Ready { port, grpc_port } => {
            let mut warnings = deployed.warnings;
            // That it answers is news for the state file, too.
            let kept = api.control.kept().await;
            warnings.extend(kept.err().map(|error| error.to_string()));
            DeployEvent::Deployed(Deployed {
                port,
                grpc_port,
                warnings,
                ..deployed
            })
        }
        Outcome::Failed(cause) => DeployEvent::Failed {
            detail: format!("agent `{agent}` did not start: {cause}"),
            traceback: traceback(&cause),
        },
        Outcome::Withdrawn => DeployEvent::Failed {
            detail: format!("agent `{agent}` was stopped or replaced before it was ready"),
            traceback: None,
        },
        Outcome::Unknown => DeployEvent::Failed {
            detail: format!(
                "the supervisor ended, or another went on, before agent `{agent}` was ready; `par ps` shows what became of it"
            ),
            traceback: None,
        },
    };
    let _whoever_asked_left = events.send(last.clone()).await;
    last
}

fn status_of(event: &DeployEvent) -> StatusCode {
    match event {
        DeployEvent::Failed { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::OK,
    }
}

fn lines(first: DeployEvent, events: mpsc::Receiver<DeployEvent>) -> Response {
    let lines = stream::unfold((Some(first), events), |(first, mut events)| async move {
        let event = match first {
            Some(first) => first,
            None => events.recv().await?,
        };
        let mut line = serde_json::to_string(&event).unwrap_or_default();
        line.push('\n');
        Some((Ok::<_, Infallible>(line), (None, events)))
    });
    ([(CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response()
}
