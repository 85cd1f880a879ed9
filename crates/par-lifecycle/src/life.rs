//! The life of one agent: a chain of incarnations, never two at a time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId};

use crate::{Deployment, Incarnation};

mod asked;
mod happened;
mod moves;

#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) agent: AgentId,
    pub(crate) deployment: Deployment,
    pub(crate) record: Record,
    pub(crate) state: State,
}

/// What is remembered since the agent was last started by hand.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) standing: Standing,
    /// Restarts without a stable time of serving between them.
    failures: u32,
    pub(crate) restarts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Has not come up yet: it fails at once, and nobody waits for it.
    New,
    /// Restarted by hand while it had a standing: it fails at once too, but callers know it and wait.
    Renewed,
    /// Has served: it is started again by policy, and callers wait.
    Proven,
}

#[derive(Debug)]
pub(crate) enum State {
    Starting(Attempt),
    Serving {
        incarnation: Incarnation,
        since: Instant,
    },
    Draining {
        incarnation: Incarnation,
        deadline: Instant,
        then: Then,
    },
    Ending {
        incarnation: Incarnation,
        /// `None`: it has been killed.
        kill_at: Option<Instant>,
        why: Why,
    },
    Waiting {
        until: Instant,
        cause: EndCause,
    },
    Stopped,
    Failed {
        cause: EndCause,
    },
    Crashed {
        cause: EndCause,
    },
    /// Removed; the fleet forgets it in the same turn.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) incarnation: Incarnation,
    phase: Phase,
    pub(crate) give_up: Instant,
    /// Ports that turned out to be taken.
    tried: BTreeSet<u16>,
    /// Why the incarnation before ended, if this is a restart.
    pub(crate) after: Option<EndCause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preparing,
    Loading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Asked(Then),
    StartTimedOut { after: Duration },
}

/// What follows when the exit has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Rest,
    Start,
    Forget,
}

impl Then {
    /// The latest word counts, but what is to be forgotten stays so.
    fn overruled_by(self, later: Self) -> Self {
        match self {
            Self::Forget => Self::Forget,
            Self::Rest | Self::Start => later,
        }
    }
}

impl Life {
    pub(crate) fn new(agent: AgentId, deployment: Deployment) -> Self {
        Self {
            agent,
            deployment,
            record: Record::beginning_as(Standing::New),
            state: State::Stopped,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Starting(Attempt { give_up: at, .. })
            | State::Waiting { until: at, .. }
            | State::Draining { deadline: at, .. } => Some(at),
            State::Ending { kill_at, .. } => kill_at,
            State::Serving { .. }
            | State::Stopped
            | State::Failed { .. }
            | State::Crashed { .. }
            | State::Gone => None,
        }
    }

    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        match self.state {
            State::Starting(Attempt { incarnation, .. })
            | State::Serving { incarnation, .. }
            | State::Draining { incarnation, .. }
            | State::Ending { incarnation, .. } => Some(incarnation),
            State::Waiting { .. }
            | State::Stopped
            | State::Failed { .. }
            | State::Crashed { .. }
            | State::Gone => None,
        }
    }

    fn incarnation_mut(&mut self) -> Option<&mut Incarnation> {
        match &mut self.state {
            State::Starting(Attempt { incarnation, .. })
            | State::Serving { incarnation, .. }
            | State::Draining { incarnation, .. }
            | State::Ending { incarnation, .. } => Some(incarnation),
            _ => None,
        }
    }

    /// What somebody asked to follow the end that is under way.
    pub(crate) fn then(&self) -> Option<Then> {
        match self.state {
            State::Draining { then, .. }
            | State::Ending {
                why: Why::Asked(then),
                ..
            } => Some(then),
            _ => None,
        }
    }

    pub(crate) fn is_incarnated_as(&self, replica: ReplicaId) -> bool {
        self.incarnation()
            .is_some_and(|incarnation| incarnation.replica == replica)
    }
}

impl Record {
    fn beginning_as(standing: Standing) -> Self {
        Self {
            standing,
            failures: 0,
            restarts: 0,
        }
    }
}
