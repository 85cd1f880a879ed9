//! The control API: `/supervisor/…`, `/runtime/health`, `/metrics`, and its own description at `/openapi.json`.

mod audit;
mod deploy;
mod events;
mod health;
mod intake;
mod lifecycle;
mod logs;
mod metrics;
mod network;
mod outcome;
mod refusal;
mod releases;
mod secrets;
mod spawn;
mod status;
mod stock;
mod text_field;
mod tokens;
mod upgrade;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use intake::Intake;
pub(crate) use metrics::Figures;
pub(crate) use network::ask;
pub(crate) use outcome::{Outcome, outcome_of};
use par_model::api::TlsStatus;
use refusal::ApiError;
pub(crate) use stock::Deployments;

use crate::access::{AuditLog, Gatekeeper};
use crate::events::EventLog;
use crate::message::Control;

/// What the API works with.
pub(crate) struct Api {
    pub(crate) control: Control,
    pub(crate) events: Arc<EventLog>,
    pub(crate) intake: Intake,
    pub(crate) gatekeeper: Gatekeeper,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) host: std::net::IpAddr,
    /// None without TLS.
    pub(crate) tls: Option<tokio::sync::watch::Receiver<TlsStatus>>,
    pub(crate) deployments: Deployments,
    pub(crate) figures: Figures,
    /// Where workers listen, `<replica>.sock` each.
    pub(crate) sockets: std::path::PathBuf,
    /// Who lets another process go on.
    pub(crate) upgrades: tokio::sync::mpsc::Sender<crate::house::Upgrade>,
    pub(crate) groups: Arc<par_sandbox::Groups>,
}

type Shared = axum::extract::State<Arc<Api>>;

/// JSON bodies of the API are small; packages have a limit of their own.
const LARGEST_JSON: usize = 2 << 20;

#[derive(OpenApi)]
#[openapi(info(
    title = "Multi-PAR",
    description = "Deploys, watches and calls agents. Calls go to `/agents/{id}/…`, any method, and are passed to the agent."
))]
struct Description;

/// How callers say who they are, where they have to.
fn secured(mut description: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A token of `par token create`, or a JWT of the configured issuer",
        ))
        .build();
    let components = description.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    description.security = Some(vec![
        SecurityRequirement::new("bearer", Vec::<String>::new()),
        // On loopback, unless it is set otherwise.
        SecurityRequirement::default(),
    ]);
    description
}

pub(crate) fn router(api: Arc<Api>) -> Router {
    let (router, description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(status::status))
        .routes(routes!(health::fleet_health))
        .routes(routes!(health::runtime_health))
        .routes(routes!(spawn::spawn))
        .routes(routes!(lifecycle::stop))
        .routes(routes!(lifecycle::start))
        .routes(routes!(lifecycle::restart))
        .routes(routes!(lifecycle::remove))
        .routes(routes!(releases::list))
        .routes(routes!(releases::rollback))
        .routes(routes!(releases::promote))
        .routes(routes!(releases::scale))
        .routes(routes!(network::read))
        .routes(routes!(network::grant))
        .routes(routes!(network::revoke))
        .routes(routes!(secrets::list, secrets::set))
        .routes(routes!(secrets::remove))
        .routes(routes!(upgrade::upgrade))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(audit::read))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(deploy::deploy))
                .routes(routes!(stock::deploy))
                .layer(DefaultBodyLimit::disable()),
        )
        .routes(routes!(metrics::metrics))
        .routes(routes!(logs::read, logs::clear))
        .routes(routes!(events::read))
        .routes(routes!(stock::outcome))
        .split_for_parts();
    let description = secured(description);
    router
        .route("/openapi.json", get(async || Json(description)))
        .fallback(async || ApiError::not_found("Not Found").into_response())
        .method_not_allowed_fallback(async || ApiError::wrong_method().into_response())
        .layer(DefaultBodyLimit::max(LARGEST_JSON))
        .with_state(api)
}
