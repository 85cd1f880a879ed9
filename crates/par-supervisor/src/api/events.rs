//! `GET /supervisor/events`
#![expect(
    unused_qualifications,
    reason = "the macro that describes parameters writes them"
)]

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use futures_util::stream;
use par_model::api::{Detail, Events};
use par_model::{AgentId, ProcessId};
use par_store::{EventFilter, KeptEvent};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::Shared;
use super::refusal::ApiError;
use crate::events::{Follower, to_api};

const USUAL_LIMIT: usize = 100;
const LARGEST_LIMIT: usize = 10_000;

#[derive(Debug, Default, Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// An agent, or several with commas between them; without one, all agents and the supervisor.
    agent: Option<String>,
    /// Not older than this: a time such as `2030-01-31T12:00:00Z`, or a while such as `10m`.
    since: Option<String>,
    /// Only events with a greater number.
    after: Option<u64>,
    /// At most so many events, 100 unless said otherwise.
    limit: Option<usize>,
    /// Go on with every event that happens, as server-sent events, oldest first. With `after`, or `Last-Event-ID` when
    /// coming back, from there; else from the newest `limit` events.
    #[serde(default)]
    follow: bool,
}

/// What happened, newest first.
#[utoipa::path(
    get, path = "/supervisor/events", params(Wanted),
    responses((status = 200, body = Events), (status = 400, description = "A parameter is wrong", body = Detail))
)]
pub(super) async fn read(
    State(api): Shared,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(wanted) = wanted.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let known = |agent: &AgentId| api.control.snapshot().agents.contains_key(agent);
    let filter = filter(&wanted, known, SystemTime::now())?;
    let limit = wanted.limit.unwrap_or(USUAL_LIMIT).min(LARGEST_LIMIT);
    let log = &api.events;
    // Whoever comes back says so in a header, whatever it once asked for.
    let resumed = if wanted.follow {
        last_seen(&headers)?
    } else {
        None
    };
    if let (true, Some(after)) = (wanted.follow, resumed.or(filter.after)) {
        let follower = log.follow(filter, after);
        return Ok(follow(vec![], follower, api.control.elsewhere.clone()).into_response());
    }
    let last = log.last();
    let newest = log.newest(filter.clone(), limit).await;
    let newest = newest.map_err(|error| ApiError::internal(&error))?;
    if wanted.follow {
        let last = newest.first().map_or(last, |kept| kept.id.max(last));
        let follower = log.follow(filter, last);
        return Ok(follow(newest, follower, api.control.elsewhere.clone()).into_response());
    }
    let events: Vec<_> = newest.iter().map(to_api).collect();
    let count = events.len();
    Ok(Json(Events { events, count }).into_response())
}

fn filter(
    wanted: &Wanted,
    known: impl Fn(&AgentId) -> bool,
    now: SystemTime,
) -> Result<EventFilter, ApiError> {
    let named = wanted.agent.as_deref().unwrap_or_default();
    let agents = named
        .split(',')
        .filter(|word| !word.is_empty())
        .map(|word| ProcessId::parse(word, &known).map(|process| process.agent().clone()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ApiError::bad_request(format!("agent: {error}")))?;
    let since = wanted.since.as_deref().filter(|since| !since.is_empty());
    let since_ms = since
        .map(|since| {
            since_ms(since, now).ok_or_else(|| {
                let message = format!("since: `{}` is neither a time such as 2030-01-31T12:00:00Z nor a while such as 10m", since.escape_debug());
                ApiError::bad_request(message)
            })
        })
        .transpose()?;
    Ok(EventFilter {
        agents,
        after: wanted.after,
        since_ms,
    })
}

fn since_ms(text: &str, now: SystemTime) -> Option<u64> {
    let at = match humantime::parse_duration(text) {
        Ok(while_ago) => now.checked_sub(while_ago).unwrap_or(UNIX_EPOCH),
        Err(_) => humantime::parse_rfc3339_weak(text).ok()?,
    };
    let since: Duration = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).ok()
}

fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = || ApiError::bad_request("last-event-id: it is no number of an event");
    number.map(Some).ok_or_else(wrong)
}

fn follow(
    before: Vec<KeptEvent>,
    follower: Follower,
    elsewhere: CancellationToken,
) -> Sse<impl futures_util::Stream<Item = Result<Sent, Infallible>>> {
    let after = stream::unfold(follower, |mut follower| async move {
        let kept = follower.next().await?;
        Some((sent(&kept), follower))
    });
    let before: Vec<Sent> = before.iter().rev().map(sent).collect();
    let events = stream::iter(before).chain(after);
    let events = events.take_until(elsewhere.cancelled_owned()).map(Ok);
    Sse::new(events).keep_alive(KeepAlive::default())
}

fn sent(kept: &KeptEvent) -> Sent {
    let event = Sent::default().id(kept.id.to_string());
    event.json_data(to_api(kept)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(wanted: Wanted) -> Result<EventFilter, String> {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        filter(&wanted, |_| false, now).map_err(|error| error.detail)
    }

    fn since(text: &str) -> Result<Option<u64>, String> {
        let wanted = Wanted {
            since: Some(text.to_owned()),
            ..Wanted::default()
        };
        filtered(wanted).map(|filter| filter.since_ms)
    }

    #[test]
    fn since_is_a_time_or_a_while() {
        assert_eq!(since("10m"), Ok(Some(400_000)));
        assert_eq!(since("1970-01-01T00:00:01.5Z"), Ok(Some(1_500)));
        assert_eq!(since("1day"), Ok(Some(0)));
        assert_eq!(since(""), Ok(None));
        assert!(since("yesterday").is_err_and(|error| error.starts_with("since: ")));
    }

    #[test]
    fn several_agents_are_named_with_commas() {
        let wanted = |agent: &str| Wanted {
            agent: Some(agent.to_owned()),
            ..Wanted::default()
        };
        let agents = filtered(wanted("a,b,")).expect("right").agents;
        assert_eq!(agents.len(), 2);
        assert!(filtered(wanted("a,../x")).is_err_and(|error| error.starts_with("agent: ")));
    }
}
