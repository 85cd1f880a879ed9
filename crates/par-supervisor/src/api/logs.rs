//! `GET` and `DELETE /supervisor/logs`
#![expect(
    unused_qualifications,
    reason = "the macro that describes parameters writes them"
)]

use std::convert::Infallible;
use std::str::FromStr as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use futures_util::stream;
use par_model::api::{Detail, Done, LogExtra, LogRecord, Logs};
use par_model::log::{Level, Stream};
use par_model::{AgentId, ProcessId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::refusal::ApiError;
use crate::logs::{Entry, Filter, Follower, News};

const USUAL_LIMIT: usize = 100;
const LARGEST_LIMIT: usize = 10_000;

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// `par-<agent>`, or the bare agent id; without one, all agents.
    process_id: Option<String>,
    /// Exactly this level.
    level: Option<String>,
    /// At most so many lines, 100 unless said otherwise.
    limit: Option<usize>,
    /// Go on with every line that is written, as server-sent events, oldest first.
    #[serde(default)]
    follow: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Cleared {
    /// `par-<agent>`, or the bare agent id; without one, all agents.
    process_id: Option<String>,
}

type Rejected = axum::extract::rejection::QueryRejection;

/// What agents wrote, newest first.
#[utoipa::path(
    get, path = "/supervisor/logs", params(Wanted),
    responses((status = 200, body = Logs), (status = 400, description = "A parameter is wrong", body = Detail))
)]
pub(super) async fn read(
    State(api): Shared,
    wanted: Result<Query<Wanted>, Rejected>,
) -> Result<Response, ApiError> {
    let Query(wanted) = wanted.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let filter = filter(&wanted, |agent| {
        api.control.snapshot().agents.contains_key(agent)
    })?;
    let limit = wanted.limit.unwrap_or(USUAL_LIMIT).min(LARGEST_LIMIT);
    if wanted.follow {
        let (before, follower) = api.control.logs.follow(filter, limit);
        return Ok(follow(before, follower).into_response());
    }
    let logs: Vec<LogRecord> = api
        .control
        .logs
        .newest(&filter, limit)
        .iter()
        .map(|entry| entry.to_api())
        .collect();
    let count = logs.len();
    Ok(Json(Logs { logs, count }).into_response())
}

/// Forgets what an agent, or every agent, has written.
#[utoipa::path(
    delete, path = "/supervisor/logs", params(Cleared),
    responses((status = 200, body = Done), (status = 400, description = "A parameter is wrong", body = Detail))
)]
pub(super) async fn clear(
    State(api): Shared,
    cleared: Result<Query<Cleared>, Rejected>,
) -> Result<Json<Done>, ApiError> {
    let Query(cleared) = cleared.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let known = |agent: &AgentId| api.control.snapshot().agents.contains_key(agent);
    let agent = cleared
        .process_id
        .map(|word| process(&word, known))
        .transpose()?;
    api.control.logs.clear(agent.as_ref());
    let message = agent.map_or_else(
        || "Logs of all agents cleared".to_owned(),
        |agent| format!("Logs of {agent} cleared"),
    );
    Ok(Json(Done {
        message: Some(message),
        ..Done::success()
    }))
}

fn filter(wanted: &Wanted, known: impl Fn(&AgentId) -> bool) -> Result<Filter, ApiError> {
    let agent = wanted
        .process_id
        .as_deref()
        .filter(|word| !word.is_empty())
        .map(|word| process(word, known))
        .transpose()?;
    let level = wanted
        .level
        .as_deref()
        .filter(|word| !word.is_empty())
        .map(Level::from_str)
        .transpose();
    let level = level.map_err(|error| ApiError::bad_request(format!("level: {error}")))?;
    Ok(Filter { agent, level })
}

fn process(word: &str, known: impl Fn(&AgentId) -> bool) -> Result<AgentId, ApiError> {
    let found = ProcessId::parse(word, known)
        .map_err(|error| ApiError::bad_request(format!("process_id: {error}")))?;
    Ok(found.agent().clone())
}

fn follow(
    before: Vec<Arc<Entry>>,
    follower: Follower,
) -> Sse<impl futures_util::Stream<Item = Result<Event, Infallible>>> {
    let after = stream::unfold(follower, |mut follower| async move {
        let record = match follower.next().await? {
            News::Line(entry) => entry.to_api(),
            News::Missed(lines) => gap(lines),
        };
        Some((record, follower))
    });
    let before: Vec<LogRecord> = before.iter().map(|entry| entry.to_api()).collect();
    let records = stream::iter(before).chain(after);
    let events = records.map(|record| Ok(Event::default().json_data(record).unwrap_or_default()));
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// Said to a follower that could not keep up.
fn gap(missed: u64) -> LogRecord {
    LogRecord {
        process_id: "supervisor".to_owned(),
        timestamp: humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
        level: Level::Warning,
        message: format!("{missed} lines are missing here: they came faster than they were read"),
        extra: LogExtra {
            stream: Stream::Worker,
        },
    }
}
