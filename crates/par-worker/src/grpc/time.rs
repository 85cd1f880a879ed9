//! What calls say of time.

use std::time::Duration;

use http::HeaderMap;
use par_model::{CallError, grpc};
use tokio::time::Instant;

use crate::agent::logs::now_ms;

/// How long the caller waits, if it says so.
pub(super) fn asked_deadline(headers: &HeaderMap) -> Result<Option<Duration>, CallError> {
    let Some(value) = headers.get(grpc::TIMEOUT) else {
        return Ok(None);
    };
    let time = value.to_str().ok().and_then(grpc::parse_timeout);
    let nonsense = || CallError::BadRequest(format!("`{}` is not a time", grpc::TIMEOUT));
    time.map(Some).ok_or_else(nonsense)
}

/// When it does not wait any more; none also for a time beyond all clocks.
pub(super) fn give_up(headers: &HeaderMap) -> Result<Option<Instant>, CallError> {
    let asked = asked_deadline(headers)?;
    Ok(asked.and_then(|time| Instant::now().checked_add(time)))
}

/// Milliseconds since 1970.
pub(super) fn timestamp() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}
