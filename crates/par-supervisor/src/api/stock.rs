//! What `pixell deploy -e local` of the packaging kit speaks: an upload that is answered at once, and a status that is
//! asked for until it is final. The app's id is the agent's.

use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr as _;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use axum::Json;
use axum::extract::multipart::MultipartRejection;
use axum::extract::{Multipart, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use par_lifecycle::Beside;
use par_model::AgentId;
use par_package::Package;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::deploy::take_in;
use super::outcome::{Outcome, outcome_of};
use super::refusal::ApiError;
use super::spawn::check_env;
use super::text_field::{broken, discard, form, text_of};
use super::{Api, Shared};
use crate::catalog::{Made, with_roles_of};

/// Deployments whose outcome is remembered.
const REMEMBERED: usize = 1000;

/// What became of deployments, by number.
#[derive(Default)]
pub(crate) struct Deployments {
    known: Mutex<VecDeque<Deployment>>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Deployment {
    id: String,
    /// `deploying`, `completed` or `failed`
    status: &'static str,
    /// RFC 3339
    queued_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Deployments {
    fn add(&self, deployment: Deployment) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back(deployment);
        while known.len() > REMEMBERED {
            known.pop_front();
        }
    }

    fn finish(&self, id: &str, outcome: &Outcome) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(deployment) = known.iter_mut().find(|deployment| deployment.id == id) else {
            return;
        };
        deployment.completed_at = Some(now());
        (deployment.status, deployment.error) = match outcome {
            Outcome::Ready { .. } => ("completed", None),
            Outcome::Failed(cause) => ("failed", Some(cause.to_string())),
            Outcome::Withdrawn | Outcome::Unknown => (
                "failed",
                Some("stopped or replaced before it was ready".to_owned()),
            ),
        };
    }

    fn get(&self, id: &str) -> Option<Deployment> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|deployment| deployment.id == id).cloned()
    }
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// The fields of the upload that we read; the others are the kit's own.
#[derive(Default)]
struct Upload {
    env: BTreeMap<String, String>,
    force: bool,
    package: Option<(Package, u64)>,
}

/// Accepts a package as the kit's `deploy` command sends it.
#[utoipa::path(
    post, path = "/api/agent-apps/{app}/packages/deploy",
    params(("app", description = "The agent's id")),
    request_body(content_type = "multipart/form-data", description = "`version`, `environment` (JSON), `force_overwrite`, `file`"),
    responses(
        (status = 202, description = "`{deployment, package, tracking}`"),
        (status = 400, description = "The package was refused"),
        (status = 409, description = "This version runs already, with other content"),
        (status = 422, description = "A field is missing or wrong"),
    )
)]
pub(super) async fn deploy(
    State(api): Shared,
    Path(app): Path<String>,
    upload: Result<Multipart, MultipartRejection>,
) -> Result<Response, StockError> {
    let agent =
        AgentId::from_str(&app).map_err(|error| ApiError::wrong_field(format!("app: {error}")))?;
    let upload = read(&api, form(upload)?).await?;
    let (package, size_bytes) = upload
        .package
        .ok_or_else(|| ApiError::wrong_field("file: the package is missing"))?;
    if !upload.force && runs_other_content(&api, &agent, &package) {
        let words = format!("{} is deployed already with other content", package.label());
        return Err(ApiError::new(StatusCode::CONFLICT, words).into());
    }
    let (digest, version) = (
        package.digest.to_string(),
        package.manifest.version.to_string(),
    );
    let made = made_of(agent.clone(), upload.env, package);
    let release = api
        .control
        .deploy(made, Beside::Roll)
        .await
        .map_err(ApiError::from)?;
    let deployment = Deployment {
        id: format!("{agent}-{}", release.0),
        status: "deploying",
        queued_at: now(),
        completed_at: None,
        error: None,
    };
    api.deployments.add(deployment.clone());
    let id = deployment.id.clone();
    let status_url = format!("/api/deployments/{id}");
    // Goes on after the answer: the kit asks for the outcome.
    tokio::spawn(async move {
        let outcome = outcome_of(&api.control, &agent, release, |_| {}).await;
        api.deployments.finish(&id, &outcome);
    });
    let body = json!({
        "deployment": deployment,
        "package": { "id": digest, "version": version, "size_bytes": size_bytes },
        "tracking": { "status_url": status_url },
    });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// What became of a deployment.
#[utoipa::path(
    get, path = "/api/deployments/{id}", params(("id", description = "As the deployment's answer said")),
    responses((status = 200, description = "`{deployment: {id, status, error?}}`"), (status = 404, description = "Unknown"))
)]
pub(super) async fn outcome(
    State(api): Shared,
    Path(id): Path<String>,
) -> Result<Response, StockError> {
    let deployment = api
        .deployments
        .get(&id)
        .ok_or_else(|| ApiError::not_found("Deployment not found"))?;
    Ok(Json(json!({ "deployment": deployment })).into_response())
}

async fn read(api: &Api, mut multipart: Multipart) -> Result<Upload, ApiError> {
    let mut upload = Upload::default();
    while let Some(field) = multipart.next_field().await.map_err(broken)? {
        match field.name() {
            Some("environment") => {
                let text = text_of(field).await?;
                upload.env = serde_json::from_slice(&text)
                    .map_err(|error| ApiError::wrong_field(format!("environment: {error}")))?;
                check_env("env_vars", &upload.env)?;
            }
            Some("force_overwrite") => upload.force = text_of(field).await? == b"true",
            Some("file") => upload.package = Some(take_in(api, field).await?),
            // Notes, and a signature that nobody here could check.
            _ => discard(field).await?,
        }
    }
    Ok(upload)
}

fn runs_other_content(api: &Api, agent: &AgentId, package: &Package) -> bool {
    let snapshot = api.control.snapshot();
    snapshot.agents.get(agent).is_some_and(|known| {
        known.lives()
            && known.made.package_id == package.label()
            && known.made.digest != package.digest
    })
}

/// The kit sends what `agent.yaml` sets along, unexpanded: that is the package's own layer, not the deployer's.
fn made_of(agent: AgentId, env: BTreeMap<String, String>, package: Package) -> Made {
    let own: BTreeMap<&str, &str> = package.manifest.environment.iter().collect();
    let given = env
        .into_iter()
        .filter(|(name, value)| own.get(name.as_str()) != Some(&value.as_str()))
        .collect();
    let mut options = par_model::api::SpawnOptions::default();
    super::network::ask(&mut options, &package.manifest);
    let options = with_roles_of(options, &package);
    Made {
        agent,
        package_id: package.label(),
        digest: package.digest,
        package: package.root,
        env: given,
        secrets: Default::default(),
        options,
        note: None,
        unusable: None,
    }
}

/// The kit reads `error` and `details` where everybody else reads `detail`.
pub(super) struct StockError(ApiError);

impl From<ApiError> for StockError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for StockError {
    fn into_response(self) -> Response {
        let words = self.0.detail;
        (
            self.0.status,
            Json(json!({ "detail": words, "error": words, "details": words })),
        )
            .into_response()
    }
}
