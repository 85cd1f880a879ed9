//! `POST /supervisor/spawn`: a package of this machine becomes an agent.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use par_lifecycle::{Beside, Release};
use par_model::api::{Detail, SpawnOptions, SpawnRequest, Spawned};
use par_model::control::MAX_LINE;
use par_model::{AgentId, ProcessId};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::intake::IntakeError;
use super::outcome::port_of;
use super::refusal::ApiError;
use super::{Api, Shared};
use crate::catalog::Made;

/// Bytes of all variables together: less than Linux takes of a single one. A worker is told them in one line, where
/// a byte may take six.
const LARGEST_ENV: usize = 120 << 10;
const _: () = assert!(LARGEST_ENV * 6 < MAX_LINE);

/// Of one agent: each has ports and processes of its own.
pub(super) const MOST_REPLICAS: u32 = 64;

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
    let options: SpawnOptions = field_by_field(body)?;
    check_options(&options)?;
    check_env(&fields.env_vars)?;
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
    let longest = Duration::from_secs(7 * 24 * 3600).as_secs_f64();
    let within = |name: &str, value: Option<f64>, least: f64, most: f64| match value {
        Some(value) if !(least..=most).contains(&value) => Err(ApiError::wrong_field(format!(
            "{name}: {value} is not between {least} and {most}"
        ))),
        _ => Ok(()),
    };
    within(
        "restart_delay_seconds",
        options.restart_delay_seconds,
        0.0,
        longest,
    )?;
    within(
        "max_restart_delay_seconds",
        options.max_restart_delay_seconds,
        0.0,
        longest,
    )?;
    within(
        "backoff_multiplier",
        options.backoff_multiplier,
        1.0,
        1000.0,
    )?;
    within("cpu_limit", options.cpu_limit, 0.01, 4096.0)?;
    let seconds = [
        ("restart_period_seconds", options.restart_period_seconds),
        ("idle_timeout_seconds", options.idle_timeout_seconds),
        ("idle_stop_seconds", options.idle_stop_seconds),
    ];
    for (name, value) in seconds {
        within(name, value, 0.001, longest)?;
    }
    let replicas = options.replicas.map(f64::from);
    within("replicas", replicas, 1.0, f64::from(MOST_REPLICAS))?;
    options.liveness().map_err(ApiError::wrong_field)?;
    let whole = |name: &str, value: Option<u64>, least: u64, most: u64| match value {
        Some(value) if !(least..=most).contains(&value) => Err(ApiError::wrong_field(format!(
            "{name}: {value} is not between {least} and {most}"
        ))),
        _ => Ok(()),
    };
    whole("memory_limit_mb", options.memory_limit_mb, 16, 1 << 24)?;
    whole("pids_limit", options.pids_limit, 4, 1 << 22)?;
    whole("open_files_limit", options.open_files_limit, 16, 1 << 30)?;
    whole("workspace_limit_mb", options.workspace_limit_mb, 1, 1 << 30)
}

/// Variables that no process can be given. Says names alone: values may be secrets.
pub(super) fn check_env(variables: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let size: usize = variables
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size > LARGEST_ENV {
        return Err(ApiError::wrong_field(format!(
            "env_vars: {size} bytes together, more than {LARGEST_ENV}"
        )));
    }
    for (name, value) in variables {
        if !par_package::is_variable_name(name) {
            let shown: String = name.escape_debug().take(80).collect();
            return Err(ApiError::wrong_field(format!(
                "env_vars: `{shown}` is not a variable's name"
            )));
        }
        if value.contains('\0') {
            return Err(ApiError::wrong_field(format!(
                "env_vars.{name}: contains a NUL character"
            )));
        }
    }
    Ok(())
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
    let (agent, warnings) = (made.agent.clone(), made.warnings(api.groups.why_not()));
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
