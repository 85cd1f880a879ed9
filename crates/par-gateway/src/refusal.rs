//! Calls that the gateway answers itself.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use par_model::CallError;

use crate::body::ReplyBody;

/// Longest part of a caller's own words that is said back.
const MAX_SHOWN: usize = 80;

pub(crate) fn reply(error: &CallError) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Words(Full::new(Bytes::from(error.to_json()))));
    *response.status_mut() =
        StatusCode::from_u16(error.http_status()).expect("the failure table holds valid statuses");
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = error.retry_after() {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(error, CallError::Unauthenticated(_)) {
        let how = HeaderValue::from_static("Bearer realm=\"par\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, how);
    }
    response
}

/// A hostile word, cut and without control characters.
pub(crate) fn shown(word: &str) -> String {
    word.chars()
        .take(MAX_SHOWN)
        .flat_map(char::escape_debug)
        .collect()
}
