//! `POST /supervisor/upgrade`: another binary goes on from here.

use std::net::IpAddr;
use std::path::Path;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use par_model::api::{Detail, UpgradeRequest, Upgraded};
use tokio::sync::oneshot;

use super::Shared;
use super::refusal::ApiError;
use super::spawn::field_by_field;
use crate::house::Upgrade;

/// Whoever reaches an address that others reach too may put back what runs, and nothing else.
fn check_door(host: IpAddr, binary: &Path) -> Result<(), ApiError> {
    let own = std::env::current_exe().unwrap_or_default();
    let own = own.to_string_lossy();
    let own = own.strip_suffix(" (deleted)").unwrap_or(&own);
    if host.is_loopback() || binary == Path::new(own) {
        return Ok(());
    }
    let words = format!(
        "this supervisor listens on {host}, where others may ask it: put the new binary in the place of `{own}`, and name that"
    );
    Err(ApiError::new(StatusCode::FORBIDDEN, words))
}

/// Starts another binary, which takes over the listening socket and the workers. Answers when it serves; calls that have
/// begun here are finished here. If it does not serve, everything goes on as before.
#[utoipa::path(
    post, path = "/supervisor/upgrade", request_body = UpgradeRequest,
    responses(
        (status = 200, body = Upgraded),
        (status = 403, description = "Another binary, where others than this machine may ask", body = Detail),
        (status = 409, description = "Another upgrade is under way", body = Detail),
        (status = 422, description = "The binary is missing, or did not serve", body = Detail),
    )
)]
pub(super) async fn upgrade(State(api): Shared, body: Bytes) -> Result<Json<Upgraded>, ApiError> {
    let request: UpgradeRequest = field_by_field(&body)?;
    let binary = Path::new(&request.binary);
    if !binary.is_absolute() || !binary.is_file() {
        let words = format!("binary: `{}` is not the path of a file", binary.display());
        return Err(ApiError::wrong_field(words));
    }
    check_door(api.host, binary)?;
    let (answer, answered) = oneshot::channel();
    let asked = api.upgrades.try_send(Upgrade {
        binary: binary.to_owned(),
        answer,
    });
    if asked.is_err() {
        let words = "another upgrade is under way, or the supervisor ends";
        return Err(ApiError::new(StatusCode::CONFLICT, words));
    }
    match answered.await {
        Ok(Ok(pid)) => Ok(Json(Upgraded { pid })),
        Ok(Err(reason)) => Err(ApiError::wrong_field(format!(
            "nothing has changed: {reason}"
        ))),
        Err(_) => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the supervisor ends",
        )),
    }
}
