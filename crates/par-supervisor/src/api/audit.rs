//! `GET /supervisor/audit`
#![expect(
    unused_qualifications,
    reason = "the macro that describes parameters writes them"
)]

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use par_model::access::Audit;
use par_model::api::Detail;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::refusal::ApiError;
use crate::access::MOST_READ;
use crate::events::blocking;

const USUAL: usize = 100;

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// At most so many entries, 100 unless said otherwise.
    limit: Option<usize>,
}

/// What was decided about callers, newest first: changes, denials, and calls where those are kept.
#[utoipa::path(
    get, path = "/supervisor/audit", params(Wanted),
    responses((status = 200, body = Audit), (status = 400, description = "A parameter is wrong", body = Detail))
)]
pub(super) async fn read(
    State(api): Shared,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Audit>, ApiError> {
    let Query(wanted) = wanted.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let limit = wanted.limit.unwrap_or(USUAL).min(MOST_READ);
    let log = Arc::clone(&api.audit);
    let read = blocking(move || log.newest(limit)).await;
    read.map(Json).map_err(|error| ApiError::internal(&error))
}
