//! What is asked for in the query of `/supervisor/logs`, and in its headers.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::Query;
use axum::http::{HeaderMap, Uri};
use memchr::memmem::Finder;
use par_model::log::Level;
use par_model::{AgentId, ProcessId, ReplicaId};
use utoipa::IntoParams;

use super::super::refusal::ApiError;
use crate::logs::Filter;

const USUAL_LIMIT: usize = 100;
const LARGEST_LIMIT: usize = 10_000;
const LONGEST_TEXT: usize = 1 << 10;

#[derive(IntoParams)]
#[expect(dead_code, reason = "it describes what is read name by name")]
pub(super) struct Wanted {
    /// `par-<agent>`, or the bare agent id; several of them, or several divided by commas; without one, all agents.
    process_id: Option<Vec<String>>,
    /// Exactly this level.
    level: Option<String>,
    /// This level, or a graver one.
    min_level: Option<String>,
    /// Not before: a time as RFC 3339 has it, or so long ago, such as `10m` or `2h`.
    since: Option<String>,
    /// With this text in it, as it is.
    grep: Option<String>,
    /// Written by this call: what its answer said as `x-request-id`.
    call: Option<String>,
    /// Written by this incarnation.
    replica: Option<u64>,
    /// Only after the line of this `id`.
    after: Option<u64>,
    /// At most so many lines, 100 unless said otherwise.
    limit: Option<usize>,
    /// Go on with every line that is written, as server-sent events or over a WebSocket, oldest first.
    follow: Option<bool>,
}

#[derive(IntoParams)]
#[expect(dead_code, reason = "it describes what is read name by name")]
pub(super) struct Cleared {
    /// `par-<agent>`, or the bare agent id; several of them, or several divided by commas; without one, all agents.
    process_id: Option<Vec<String>>,
}

pub(super) struct Asked {
    pub(super) filter: Filter,
    pub(super) after: Option<u64>,
    pub(super) limit: usize,
    pub(super) follow: bool,
}

impl Asked {
    pub(super) fn read(
        uri: &Uri,
        headers: &HeaderMap,
        known: impl Fn(&AgentId) -> bool,
    ) -> Result<Self, ApiError> {
        let mut asked = Self {
            filter: Filter::default(),
            after: None,
            limit: USUAL_LIMIT,
            follow: false,
        };
        for (name, value) in pairs_of(uri)? {
            if !value.is_empty() {
                asked.take(&name, &value, &known)?;
            }
        }
        let last_seen = headers.get("last-event-id");
        let last_seen = last_seen.and_then(|value| value.to_str().ok()?.parse().ok());
        asked.after = last_seen.or(asked.after);
        Ok(asked)
    }

    fn take(
        &mut self,
        name: &str,
        value: &str,
        known: impl Fn(&AgentId) -> bool,
    ) -> Result<(), ApiError> {
        let filter = &mut self.filter;
        match name {
            "process_id" => filter.agents.extend(processes(value, known)?),
            "level" => filter.level = Some(parsed::<Level>(name, value)?),
            "min_level" => filter.at_least = Some(parsed::<Level>(name, value)?),
            "since" => filter.since_ms = since(value, SystemTime::now())?,
            "grep" => {
                let text = bounded(name, value)?;
                filter.grep = Some(Finder::new(text).into_owned());
            }
            "call" => filter.call = Some(bounded(name, value)?.to_owned()),
            "replica" => filter.replica = Some(ReplicaId(parsed(name, value)?)),
            "after" => self.after = Some(parsed(name, value)?),
            "limit" => self.limit = parsed::<usize>(name, value)?.min(LARGEST_LIMIT),
            "follow" => self.follow = parsed(name, value)?,
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn pairs_of(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let Query(pairs) = pairs.map_err(|error| ApiError::bad_request(error.body_text()))?;
    Ok(pairs)
}

/// Agents, divided by commas.
pub(super) fn processes(
    value: &str,
    known: impl Fn(&AgentId) -> bool,
) -> Result<Vec<AgentId>, ApiError> {
    // An empty word is a mistake: whoever clears the logs of nobody in particular clears those of all.
    let process = |word| {
        ProcessId::parse(word, &known)
            .map(|process| process.agent().clone())
            .map_err(|error| ApiError::bad_request(format!("process_id: {error}")))
    };
    value.split(',').map(process).collect()
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(name: &str, value: &str) -> Result<T, ApiError> {
    let wrong = |error| {
        let shown: String = value.escape_debug().take(80).collect();
        ApiError::bad_request(format!("{name}: `{shown}`: {error}"))
    };
    value.parse().map_err(wrong)
}

fn bounded<'a>(name: &str, value: &'a str) -> Result<&'a str, ApiError> {
    if value.len() > LONGEST_TEXT {
        let message = format!("{name}: longer than {LONGEST_TEXT} bytes");
        return Err(ApiError::bad_request(message));
    }
    Ok(value)
}

/// Milliseconds since 1970 of a time, or of so long ago.
fn since(value: &str, now: SystemTime) -> Result<u64, ApiError> {
    let ago = || {
        let ago = humantime::parse_duration(value).ok()?;
        Some(now.checked_sub(ago).unwrap_or(UNIX_EPOCH))
    };
    let at = humantime::parse_rfc3339_weak(value).ok().or_else(ago);
    let at = at.ok_or_else(|| {
        let shown: String = value.escape_debug().take(80).collect();
        ApiError::bad_request(format!(
            "since: `{shown}` is no time such as 2026-01-31T10:00:00Z, and no duration such as 10m"
        ))
    })?;
    let since: Duration = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Asked, ApiError> {
        let uri = format!("/supervisor/logs?{query}").parse().expect("a URI");
        Asked::read(&uri, &HeaderMap::new(), |agent| agent.as_str() == "a")
    }

    #[test]
    fn agents_are_named_once_or_many_times() {
        let asked = read("process_id=par-a,b&process_id=c&process_id=&limit=7&follow=true&after=9");
        let asked = asked.expect("right");
        let names: Vec<&str> = asked.filter.agents.iter().map(AgentId::as_str).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!((asked.limit, asked.follow, asked.after), (7, true, Some(9)));
    }

    #[test]
    fn a_time_is_a_moment_or_so_long_ago() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (word, seconds) in [
            ("10m", 999_400),
            ("1h 1s", 996_399),
            ("100years", 0),
            ("1970-01-01T00:01:00Z", 60),
            ("1970-01-01 00:01:00", 60),
        ] {
            assert_eq!(since(word, now).expect(word), seconds * 1_000, "{word}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, name) in [
            ("limit=many", "limit"),
            ("level=loud", "level"),
            ("min_level=loud", "min_level"),
            ("since=soon", "since"),
            ("follow=perhaps", "follow"),
            ("replica=-1", "replica"),
            ("after=x", "after"),
            ("process_id=a,%2e%2e", "process_id"),
            ("process_id=a,", "process_id"),
            (&format!("grep={}", "x".repeat(1025)), "grep"),
        ] {
            let refused = read(query).err().expect(query);
            assert!(refused.detail.contains(name), "{query}: {}", refused.detail);
        }
    }
}
