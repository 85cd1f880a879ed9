//! `/supervisor/tokens`: who may call.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use par_model::TokenName;
use par_model::access::{TokenCreated, TokenInfo, TokenRequest};
use par_model::api::{Detail, Done};

use super::Shared;
use super::refusal::ApiError;
use super::spawn::field_by_field;
use crate::access::TokenError;

/// All tokens, without their secrets.
#[utoipa::path(get, path = "/supervisor/tokens", responses((status = 200, body = Vec<TokenInfo>)))]
pub(super) async fn list(State(api): Shared) -> Result<Json<Vec<TokenInfo>>, ApiError> {
    Ok(api.gatekeeper.list().await.map(Json)?)
}

/// Makes a token. This answer is the only place where it is ever shown.
#[utoipa::path(
    post, path = "/supervisor/tokens", request_body = TokenRequest,
    responses(
        (status = 200, body = TokenCreated),
        (status = 409, description = "There is one of that name", body = Detail),
        (status = 422, description = "A field is missing or wrong", body = Detail),
    )
)]
pub(super) async fn create(
    State(api): Shared,
    body: Bytes,
) -> Result<Json<TokenCreated>, ApiError> {
    let request: TokenRequest = field_by_field(&body)?;
    Ok(api.gatekeeper.create(request).await.map(Json)?)
}

/// From now on the token is of no use.
#[utoipa::path(
    delete, path = "/supervisor/tokens/{name}", params(("name", description = "The token's name")),
    responses((status = 200, body = Done), (status = 404, description = "There is none of that name", body = Detail))
)]
pub(super) async fn revoke(
    State(api): Shared,
    Path(name): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let unknown = |_| ApiError::not_found("there is no token of that name");
    let name: TokenName = name.parse().map_err(unknown)?;
    api.gatekeeper.revoke(name).await?;
    Ok(Json(Done::success()))
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let words = crate::chain(&error);
        match error {
            TokenError::Wrong(_) => Self::wrong_field(words),
            TokenError::Taken(_) => Self::new(StatusCode::CONFLICT, words),
            TokenError::Unknown(_) => Self::not_found(words),
            TokenError::TooMany | TokenError::Store(_) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, words)
            }
            TokenError::Random(_) => Self::internal(&error),
        }
    }
}
