//! One failure vocabulary for calls, one table that puts it on every wire.

use std::time::Duration;

use crate::{AgentId, SessionId, Tier};

/// Why a call got no answer of the agent's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("Agent {0} not found")]
    UnknownAgent(String),
    #[error("Agent {0} unavailable")]
    NotReady(AgentId),
    #[error("Export '{0}' not found")]
    UnknownExport(String),
    #[error("Session '{0}' not found")]
    UnknownSession(SessionId),
    /// A larger tier than the session began with.
    #[error("the session began as {has} and cannot become {asked}: begin another")]
    TierTooSmall { has: Tier, asked: Tier },
    #[error("Not Found")]
    UnknownPath,
    #[error("Method Not Allowed")]
    WrongMethod,
    #[error("the body is not JSON: {0}")]
    BadJson(String),
    #[error("{0}")]
    BadRequest(String),
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge { limit: u64 },
    #[error("Request timeout")]
    DeadlineExceeded(Duration),
    #[error("Too many calls in flight; try again later")]
    Overloaded,
    #[error("Too many connections; try again later")]
    TooManyConnections,
    /// Of one caller, at one time.
    #[error(
        "you have {limit} calls in flight, which is the limit of one caller; try again when one is over"
    )]
    CallerBusy { limit: u32 },
    /// Of one caller, in a time.
    #[error("you call more often than {rate} times a second; try again in {} s", wait.as_secs_f64().ceil())]
    CallerTooFast { rate: u32, wait: Duration },
    /// Of all callers of one agent, at one time.
    #[error("the agent has {limit} calls in flight, which is its limit; try again later")]
    AgentBusy { limit: u32 },
    /// Of all callers of one agent, in a time.
    #[error("the agent is called more often than {rate} times a second; try again in {} s", wait.as_secs_f64().ceil())]
    AgentTooBusy { rate: u32, wait: Duration },
    /// A name that was bound to our address by somebody else (DNS rebinding).
    #[error(
        "`{0}` is not a name of this server: use its address, or have the operator add the name to `hosts`"
    )]
    ForeignHost(String),
    /// A page of somebody else.
    #[error("pages of `{0}` may not use this server: have the operator add it to `origins`")]
    ForeignOrigin(String),
    #[error("more than {0} agents called each other for one call")]
    TooManyHops(u32),
    #[error("the agent ended while it answered: {0}")]
    AgentGone(String),
    /// The handler raised, or answered what is not JSON.
    #[error("{0}")]
    Handler(String),
    #[error("this call was given up by its caller")]
    Cancelled,
    /// The supervisor, or the other agent's server, could not be reached.
    #[error("failed to reach the other agent: {0}")]
    Unreachable(String),
    /// On the door for agents, from a process that is no worker.
    #[error("process {0} is not known to run an agent")]
    UnknownCaller(u32),
    /// Who calls is not known, and has to be; why, as far as the caller may know.
    #[error("{0}")]
    Unauthenticated(String),
    /// Who calls is known, and may not; the rule, and how to be allowed.
    #[error("{0}")]
    Forbidden(String),
}

impl CallError {
    /// HTTP status and gRPC code, decided side by side so that they cannot drift.
    pub fn on_the_wire(&self) -> (u16, i32) {
        match self {
            Self::UnknownAgent(_)
            | Self::UnknownExport(_)
            | Self::UnknownSession(_)
            | Self::UnknownPath => (404, 5),
            Self::TierTooSmall { .. } => (409, 9),
            Self::WrongMethod => (405, 12),
            Self::BadJson(_) | Self::BadRequest(_) => (400, 3),
            Self::BodyTooLarge { .. } => (413, 8),
            Self::NotReady(_) => (503, 14),
            Self::Overloaded | Self::TooManyConnections => (503, 8),
            Self::CallerBusy { .. } | Self::CallerTooFast { .. } => (429, 8),
            Self::AgentBusy { .. } | Self::AgentTooBusy { .. } => (503, 14),
            Self::ForeignHost(_) | Self::ForeignOrigin(_) => (403, 7),
            Self::DeadlineExceeded(_) => (504, 4),
            Self::TooManyHops(_) => (508, 9),
            Self::AgentGone(_) | Self::Unreachable(_) => (502, 14),
            Self::Handler(_) => (500, 2),
            Self::Cancelled => (499, 1),
            Self::Unauthenticated(_) => (401, 16),
            Self::UnknownCaller(_) | Self::Forbidden(_) => (403, 7),
        }
    }

    pub fn http_status(&self) -> u16 {
        self.on_the_wire().0
    }

    /// Seconds after which it is worth to try again, where that is known to help.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::CallerTooFast { wait, .. } | Self::AgentTooBusy { wait, .. } => {
                Some(wait.as_secs_f64().ceil().max(1.0) as u64)
            }
            _ if matches!(self.http_status(), 429 | 503) => Some(1),
            _ => None,
        }
    }

    /// The body of every refusal: `{"detail": …}`.
    pub fn to_json(&self) -> String {
        crate::api::detail(&self.to_string())
    }
}

/// An error and all its sources, `: ` between them.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_asked_to_come_back_is_told_when() {
        let too_fast = |wait| CallError::CallerTooFast { rate: 1, wait };
        for (error, seconds) in [
            (too_fast(Duration::from_millis(1)), Some(1)),
            (too_fast(Duration::from_millis(2100)), Some(3)),
            (CallError::CallerBusy { limit: 1 }, Some(1)),
            (CallError::Overloaded, Some(1)),
            (CallError::UnknownPath, None),
        ] {
            assert_eq!(error.retry_after(), seconds, "{error}");
        }
    }

    #[test]
    fn a_refusal_is_one_json_object_with_a_detail() {
        assert_eq!(
            CallError::UnknownAgent("ghost".to_owned()).to_json(),
            r#"{"detail":"Agent ghost not found"}"#
        );
    }
}
