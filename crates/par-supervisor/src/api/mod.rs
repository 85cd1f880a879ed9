//! The control API: `/supervisor/…`, `/runtime/health`, and its own description at `/openapi.json`.

mod deploy;
mod doors;
mod health;
mod intake;
mod lifecycle;
mod logs;
mod outcome;
mod refusal;
mod spawn;
mod status;
mod stock;
mod text_field;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use intake::Intake;
pub(crate) use outcome::{Outcome, outcome_of};
use refusal::ApiError;
pub(crate) use stock::Deployments;

use crate::message::Control;

/// What the API works with.
pub(crate) struct Api {
    pub(crate) control: Control,
    pub(crate) intake: Intake,
    pub(crate) host: std::net::IpAddr,
    pub(crate) deployments: Deployments,
    /// Where workers listen, `<replica>.sock` each.
    pub(crate) sockets: std::path::PathBuf,
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
        .merge(
            OpenApiRouter::new()
                .routes(routes!(deploy::deploy))
                .routes(routes!(stock::deploy))
                .layer(DefaultBodyLimit::disable()),
        )
        .routes(routes!(logs::read, logs::clear))
        .routes(routes!(stock::outcome))
        .split_for_parts();
    let guarded = Arc::clone(&api);
    router
        .route("/openapi.json", get(async || Json(description)))
        .fallback(async || ApiError::not_found("Not Found").into_response())
        .method_not_allowed_fallback(async || ApiError::wrong_method().into_response())
        .layer(DefaultBodyLimit::max(LARGEST_JSON))
        .layer(axum::middleware::from_fn(move |request, next| {
            doors::guard(guarded.host, request, next)
        }))
        .with_state(api)
}
