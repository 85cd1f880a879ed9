//! Calls that the gateway answers itself.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
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
    response
}

/// A hostile word, cut and without control characters.
pub(crate) fn shown(word: &str) -> String {
    word.chars()
        .take(MAX_SHOWN)
        .flat_map(char::escape_debug)
        .collect()
}

/// The whole answer, for a connection that is not served.
pub(crate) fn as_text(error: &CallError) -> Vec<u8> {
    let body = error.to_json();
    let status = StatusCode::from_u16(error.http_status()).unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
