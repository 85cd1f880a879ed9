//! A refusal for a connection that is not served.

use http::StatusCode;
use par_model::CallError;

/// The whole answer, and that it is the last one.
pub fn whole_answer(error: &CallError) -> Vec<u8> {
    let body = error.to_json();
    let status = StatusCode::from_u16(error.http_status()).unwrap_or_default();
    let again = error
        .retry_after()
        .map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{again}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
