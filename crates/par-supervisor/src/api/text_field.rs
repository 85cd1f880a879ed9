//! Fields of an upload that are not the package: small, or not for us.

use axum::extract::Multipart;
use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use axum::http::StatusCode;

use super::refusal::ApiError;

const LARGEST_TEXT: usize = 1 << 20;

/// Reads a field that is kept in memory.
pub(super) async fn text_of(mut field: Field<'_>) -> Result<Vec<u8>, ApiError> {
    let mut text = vec![];
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        if text.len() + piece.len() > LARGEST_TEXT {
            let name = field.name().unwrap_or_default();
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("{name}: larger than {LARGEST_TEXT} bytes"),
            ));
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

/// Reads past a field and keeps nothing of it.
pub(super) async fn discard(mut field: Field<'_>) -> Result<(), ApiError> {
    while field.chunk().await.map_err(broken)?.is_some() {}
    Ok(())
}

/// What is no form is told in our own shape.
pub(super) fn form(upload: Result<Multipart, MultipartRejection>) -> Result<Multipart, ApiError> {
    upload.map_err(|error| ApiError::bad_request(error.body_text()))
}

pub(super) fn broken(error: MultipartError) -> ApiError {
    ApiError::new(error.status(), format!("the upload: {}", error.body_text()))
}
