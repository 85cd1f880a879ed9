//! How the API says no: the right status and `{"detail": …}`.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use par_lifecycle::Refusal;
use par_model::api::detail;

use crate::allowances::NotAllowed;
use crate::message::CommandError;

#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// A field that is there, and wrong.
    pub(crate) fn wrong_field(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
    }

    /// Our own fault: the log has it whole.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        let words = crate::chain(error);
        tracing::error!(error = %words, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, words)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::AlreadyRuns(_)
            | Refusal::StillStopping(_)
            | Refusal::NoCanary(_)
            | Refusal::CanaryNotReady(_)
            | Refusal::NothingBeside(_) => StatusCode::CONFLICT,
            Refusal::NoPortFree | Refusal::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.to_string())
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::NotAllowed(reason) => {
                let status = match &reason {
                    NotAllowed::NotGranted(_) | NotAllowed::NoSecret(_) => StatusCode::NOT_FOUND,
                    _ => StatusCode::UNPROCESSABLE_ENTITY,
                };
                Self::new(status, reason.to_string())
            }
            CommandError::NotKept(_) | CommandError::OnlyNow(_) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (
            self.status,
            [(CONTENT_TYPE, "application/json")],
            detail(&self.detail),
        )
            .into_response()
    }
}
