//! What people want to know of an agent's life, as it happens.

use std::time::Duration;

use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId};

use crate::Release;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub agent: AgentId,
    pub release: Release,
    /// `None`: about the release as a whole.
    pub replica: Option<ReplicaId>,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Starting,
    Ready,
    Draining,
    /// Its route is gone, and it stays for the sessions that began on it.
    Retiring,
    /// It ended as somebody had asked.
    Stopped,
    /// It ended by itself.
    Exited(EndCause),
    /// It ended by itself, and is started again after this time.
    Restarting {
        after: Duration,
    },
    /// It never came up.
    Failed(EndCause),
    /// It ended too often, or may not be started again.
    Crashed(EndCause),
    Frozen,
    Thawed,
    /// Stopped because nobody called it.
    Slept,
    /// Somebody called an agent that slept or was about to.
    Waking,
    Adopted,
    /// A release begins beside another.
    ReleaseStarted,
    /// All its replicas answer, and calls go there.
    ReleaseLive,
    /// It is let go before it took the calls, and the one before goes on.
    ReleaseFailed(EndCause),
    CanaryStarted {
        permille: u16,
    },
    Promoted,
    Scaled {
        replicas: u32,
    },
}
