//! What happened to agents, and the words for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{AgentId, ReplicaId};

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    // An incarnation.
    Starting,
    Ready,
    Draining,
    Stopped,
    Exited,
    Crashed,
    Restarting,
    Failed,
    Frozen,
    Thawed,
    IdleStopped,
    Waking,
    Adopted,
    LimitHit,
    OutOfMemory,
    Hung,
    // An agent.
    ReleaseStarted,
    ReleaseLive,
    ReleaseFailed,
    CanaryStarted,
    Promoted,
    RolledBack,
    Scaled,
    Removed,
    NetworkGranted,
    NetworkRevoked,
    SecretSet,
    SecretRemoved,
    // The supervisor.
    SupervisorStarted,
    SupervisorEnded,
    WebhookGaveUp,
    /// Events that came faster than they could be written; `details.count` says how many.
    EventsLost,
    /// A word of another version.
    #[serde(other)]
    Unknown,
}

impl EventKind {
    pub const ALL: [Self; 33] = [
        Self::Starting,
        Self::Ready,
        Self::Draining,
        Self::Stopped,
        Self::Exited,
        Self::Crashed,
        Self::Restarting,
        Self::Failed,
        Self::Frozen,
        Self::Thawed,
        Self::IdleStopped,
        Self::Waking,
        Self::Adopted,
        Self::LimitHit,
        Self::OutOfMemory,
        Self::Hung,
        Self::ReleaseStarted,
        Self::ReleaseLive,
        Self::ReleaseFailed,
        Self::CanaryStarted,
        Self::Promoted,
        Self::RolledBack,
        Self::Scaled,
        Self::Removed,
        Self::NetworkGranted,
        Self::NetworkRevoked,
        Self::SecretSet,
        Self::SecretRemoved,
        Self::SupervisorStarted,
        Self::SupervisorEnded,
        Self::WebhookGaveUp,
        Self::EventsLost,
        Self::Unknown,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Exited => "exited",
            Self::Crashed => "crashed",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Frozen => "frozen",
            Self::Thawed => "thawed",
            Self::IdleStopped => "idle_stopped",
            Self::Waking => "waking",
            Self::Adopted => "adopted",
            Self::LimitHit => "limit_hit",
            Self::OutOfMemory => "out_of_memory",
            Self::Hung => "hung",
            Self::ReleaseStarted => "release_started",
            Self::ReleaseLive => "release_live",
            Self::ReleaseFailed => "release_failed",
            Self::CanaryStarted => "canary_started",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Scaled => "scaled",
            Self::Removed => "removed",
            Self::NetworkGranted => "network_granted",
            Self::NetworkRevoked => "network_revoked",
            Self::SecretSet => "secret_set",
            Self::SecretRemoved => "secret_removed",
            Self::SupervisorStarted => "supervisor_started",
            Self::SupervisorEnded => "supervisor_ended",
            Self::WebhookGaveUp => "webhook_gave_up",
            Self::EventsLost => "events_lost",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of event")]
pub struct NoSuchKind(String);

impl FromStr for EventKind {
    type Err = NoSuchKind;

    fn from_str(word: &str) -> Result<Self, NoSuchKind> {
        let found = Self::ALL.into_iter().find(|kind| kind.word() == word);
        found.ok_or_else(|| NoSuchKind(word.chars().take(80).collect()))
    }
}

/// What happened; it has no number yet.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// Milliseconds since 1970. Says when, not in which order: clocks jump.
    pub at_ms: u64,
    pub kind: EventKind,
    /// `None`: of the supervisor itself.
    pub agent: Option<AgentId>,
    pub replica: Option<ReplicaId>,
    pub release: Option<u32>,
    pub reason: Option<String>,
    pub details: Option<Value>,
}

impl NewEvent {
    pub fn new(at_ms: u64, kind: EventKind) -> Self {
        Self {
            at_ms,
            kind,
            agent: None,
            replica: None,
            release: None,
            reason: None,
            details: None,
        }
    }
}

/// One event as people, followers and webhooks see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Grows from event to event.
    pub id: u64,
    /// RFC 3339, UTC, milliseconds.
    pub at: String,
    pub kind: EventKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub details: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_the_same_word_everywhere() {
        for kind in EventKind::ALL {
            let json = serde_json::to_value(kind).expect("plain");
            assert_eq!(json, kind.word());
            assert_eq!(kind.word().parse(), Ok(kind));
        }
        assert!("Ready".parse::<EventKind>().is_err());
        let later: EventKind = serde_json::from_str("\"levitating\"").expect("a word");
        assert_eq!(later, EventKind::Unknown);
    }
}
