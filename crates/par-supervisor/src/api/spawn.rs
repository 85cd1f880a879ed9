//! `POST /supervisor/spawn`: a package of this machine becomes an agent.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use par_lifecycle::{Beside, Release};
use par_model::api::{Detail, SpawnOptions, SpawnRequest, Spawned};
use par_model::{AgentId, ProcessId};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::intake::IntakeError;
use super::network;
use super::outcome::port_of;
use super::refusal::ApiError;
use super::{Api, Shared};
use crate::bounds;
use crate::catalog::{Made, with_roles_of};

/// Longest name of a package that whoever deploys it may choose, in bytes.
const LONGEST_PACKAGE_ID: usize = 1 << 10;

/// The fields of a [`SpawnRequest`] that are not options. Read apart, so that an error names its field.
#[derive(Deserialize)]
struct Fields {
    agent_id: String,
    #[serde(default)]
    package_id: String,
    package_path: String,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
}

/// Checks a package and starts it as a new agent. The answer comes when its process exists; `starting` becomes
/// `running` when its code is loaded.
#[utoipa::path(
    post, path = "/supervisor/spawn", request_body = SpawnRequest,
    responses(
        (status = 200, body = Spawned),
        (status = 400, description = "The body is not JSON, or the package was refused", body = Detail),
        (status = 403, description = "From a page of another origin", body = Detail),
        (status = 409, description = "The agent already runs", body = Detail),
        (status = 422, description = "A field is missing or wrong", body = Detail),
        (status = 503, description = "No port is free", body = Detail),
    )
)]
pub(super) async fn spawn(State(api): Shared, body: Bytes) -> Result<Json<Spawned>, ApiError> {
    let made = made_from(&api, &body, None).await?;
    start(&api, made, Beside::Refuse).await.map(Json)
}

/// Reads a spawn request and takes its package in. `word` is what the path calls the agent, if it does.
pub(super) async fn made_from(
    api: &Api,
    body: &[u8],
    word: Option<&str>,
) -> Result<Made, ApiError> {
    let json: serde_json::Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?;
    if !json.is_object() {
        return Err(ApiError::wrong_field("the body is not a JSON object"));
    }
    let fields: Fields = field_by_field(body)?;
    let mut options: SpawnOptions = field_by_field(body)?;
    check_options(&options)?;
    check_env("env_vars", &fields.env_vars)?;
    check_package_id(&fields.package_id)?;
    let named = AgentId::from_str(&fields.agent_id)
        .map_err(|error| ApiError::wrong_field(format!("agent_id: {error}")))?;
    let process = ProcessId::of(named.clone()).to_string();
    if word.is_some_and(|word| word != named.as_str() && word != process) {
        return Err(ApiError::wrong_field(
            "agent_id: the path names another agent",
        ));
    }
    if fields.package_path.contains('\0') || fields.package_path.is_empty() {
        return Err(ApiError::wrong_field(
            "package_path: name an .apkg file or a folder",
        ));
    }
    let package = api
        .intake
        .admit_in_the_background(Path::new(&fields.package_path).to_owned())
        .await
        .map_err(refused)?;
    network::ask(&mut options, &package.manifest);
    let options = with_roles_of(options, &package);
    Ok(Made {
        agent: named,
        package_id: if fields.package_id.is_empty() {
            package.label()
        } else {
            fields.package_id
        },
        digest: package.digest,
        package: package.root,
        env: fields.env_vars,
        secrets: Default::default(),
        options,
        note: None,
        unusable: None,
    })
}

/// Options whose type is right and whose value makes no sense.
pub(super) fn check_options(options: &SpawnOptions) -> Result<(), ApiError> {
    let wrong = bounds::of_options(options);
    refuse(wrong.into_iter().map(|wrong| wrong.message))
}

/// Variables that no process can be given.
pub(super) fn check_env(field: &str, variables: &BTreeMap<String, String>) -> Result<(), ApiError> {
    refuse(bounds::of_env(field, variables).into_iter())
}

fn refuse(wrong: impl Iterator<Item = String>) -> Result<(), ApiError> {
    let wrong: Vec<String> = wrong.collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(ApiError::wrong_field(wrong.join("; ")))
}

pub(super) fn check_package_id(package_id: &str) -> Result<(), ApiError> {
    if package_id.len() > LONGEST_PACKAGE_ID {
        return Err(ApiError::wrong_field(format!(
            "package_id: longer than {LONGEST_PACKAGE_ID} bytes"
        )));
    }
    Ok(())
}

pub(super) fn field_by_field<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = error.path().to_string();
        let reason = error.inner().to_string();
        ApiError::wrong_field(if place == "." {
            reason
        } else {
            format!("{place}: {reason}")
        })
    })
}

pub(super) fn refused(error: IntakeError) -> ApiError {
    match error {
        IntakeError::TooLarge { .. } => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, crate::chain(&error))
        }
        error if error.blames_the_package() => ApiError::bad_request(crate::chain(&error)),
        error => ApiError::internal(&error),
    }
}

/// Starts a release.
pub(super) async fn start(api: &Api, made: Made, beside: Beside) -> Result<Spawned, ApiError> {
    let agent = made.agent.clone();
    let mut warnings = made.warnings(api.groups.why_not());
    warnings.extend(network::warnings(api, &agent, &made.options));
    let release = api.control.deploy(made, beside).await?;
    started(api, agent, release, warnings).await
}

/// Waits until a release that is being started has its ports.
pub(super) async fn started(
    api: &Api,
    agent: AgentId,
    release: Release,
    warnings: Vec<String>,
) -> Result<Spawned, ApiError> {
    let port = port_of(&api.control, &agent, release).await;
    let port = port.map_err(|cause| {
        let withdrawn = || "it was withdrawn".to_owned();
        let reason = cause.map_or_else(withdrawn, |cause| cause.to_string());
        let words = format!("agent `{agent}` could not be started: {reason}");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, words)
    })?;
    Ok(Spawned {
        status: "success".to_owned(),
        process_id: ProcessId::of(agent).to_string(),
        port,
        warnings,
    })
}
