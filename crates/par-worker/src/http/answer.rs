//! Whole answers, made from what we know.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use par_model::CallError;
use serde::Serialize;

use super::body::{Answer, Whole};
use crate::admission::Memory;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// JSON text as it is.
pub(crate) fn json_text(status: StatusCode, text: Bytes) -> Response<Answer> {
    remembered_json(status, text, None)
}

/// JSON text that takes `memory` until the client has taken it.
pub(crate) fn remembered_json(
    status: StatusCode,
    text: Bytes,
    memory: Option<Memory>,
) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Whole::new(text, memory)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Answer> {
    let text = serde_json::to_vec(value).expect("our own answers are plain JSON");
    json_text(status, text.into())
}

pub(crate) fn refusal(error: &CallError) -> Response<Answer> {
    let status =
        StatusCode::from_u16(error.http_status()).expect("the failure table holds valid statuses");
    let mut response = json_text(status, error.to_json().into());
    if let Some(seconds) = error.retry_after() {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub(crate) fn wrong_method(allowed: &'static str) -> Response<Answer> {
    let mut response = refusal(&CallError::WrongMethod);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

pub(crate) fn empty(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::empty());
    *response.status_mut() = status;
    response
}
