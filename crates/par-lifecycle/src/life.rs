//! The life of one replica: a chain of incarnations, never two at a time.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId};

use crate::{Deployment, Incarnation, Survivor};

mod asked;
mod happened;
mod moves;

#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) agent: AgentId,
    pub(crate) slot: u32,
    pub(crate) deployment: Deployment,
    pub(crate) record: Record,
    pub(crate) state: State,
    /// The latest incarnation, alive or not.
    latest: Option<Incarnation>,
}

/// What is remembered since the replica was last started by hand.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) standing: Standing,
    /// Restarts without a stable time of serving between them.
    failures: u32,
    pub(crate) restarts: u32,
    /// When it was restarted, as far back as its policy looks.
    recent: VecDeque<Instant>,
    /// Whether the present incarnation has execution sessions.
    sessions: bool,
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
        frozen: Option<Instant>,
    },
    /// Another release has its place. It takes calls for its sessions only, until they have ended.
    Retiring {
        incarnation: Incarnation,
        until: Instant,
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
    /// Stopped because nobody called it; the next call starts it.
    Asleep,
    Stopped,
    Failed {
        cause: EndCause,
    },
    Crashed {
        cause: EndCause,
    },
    /// Removed; it is forgotten in the same turn.
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
    Silent { after: Duration },
}

/// What follows when the exit has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Rest,
    Sleep,
    /// A call came before it slept.
    Wake,
    Start,
    Forget,
}

impl Then {
    /// The latest word counts, but what is to be forgotten stays so.
    fn overruled_by(self, later: Self) -> Self {
        match self {
            Self::Forget => Self::Forget,
            Self::Rest | Self::Sleep | Self::Wake | Self::Start => later,
        }
    }
}

impl Life {
    pub(crate) fn new(agent: AgentId, slot: u32, deployment: Deployment) -> Self {
        Self {
            agent,
            slot,
            deployment,
            record: Record::beginning_as(Standing::New),
            state: State::Stopped,
            latest: None,
        }
    }

    /// One whose incarnation has outlived an earlier supervisor.
    pub(crate) fn adopted(agent: AgentId, deployment: Deployment, survivor: Survivor) -> Self {
        let Survivor {
            incarnation,
            since,
            restarts,
            sessions,
            ..
        } = survivor;
        let deployment = Deployment {
            release: incarnation.release,
            ..deployment
        };
        Self {
            record: Record {
                restarts,
                sessions,
                ..Record::beginning_as(Standing::Proven)
            },
            state: State::Serving {
                incarnation,
                since,
                frozen: None,
            },
            latest: Some(incarnation),
            ..Self::new(agent, incarnation.slot, deployment)
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Starting(Attempt { give_up: at, .. })
            | State::Waiting { until: at, .. }
            | State::Retiring { until: at, .. }
            | State::Draining { deadline: at, .. } => Some(at),
            State::Ending { kill_at, .. } => kill_at,
            State::Serving { .. }
            | State::Asleep
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
            | State::Retiring { incarnation, .. }
            | State::Draining { incarnation, .. }
            | State::Ending { incarnation, .. } => Some(incarnation),
            State::Waiting { .. }
            | State::Asleep
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
            | State::Retiring { incarnation, .. }
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

    /// The incarnation that takes calls of any kind.
    pub(crate) fn serving(&self) -> Option<ReplicaId> {
        match self.state {
            State::Serving { incarnation, .. } => Some(incarnation.replica),
            _ => None,
        }
    }

    /// Since when nobody needs it at all. What is in a session would end with it.
    pub(crate) fn unneeded_since(&self) -> Option<Instant> {
        match self.state {
            State::Serving { frozen, .. } if !self.record.sessions => frozen,
            _ => None,
        }
    }

    /// Callers of it know it, and it is on its way.
    pub(crate) fn is_awaited(&self) -> bool {
        let starts = matches!(self.state, State::Starting(_));
        let will = matches!(self.then(), Some(Then::Start | Then::Wake));
        (starts || will) && self.record.standing != Standing::New
    }

    pub(crate) fn is_asleep(&self) -> bool {
        matches!(self.state, State::Asleep) || self.then() == Some(Then::Sleep)
    }

    /// At rest for good: neither alive, nor about to be.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.incarnation().is_none() && self.deadline().is_none()
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// Why it will not serve by itself.
    pub(crate) fn defeat(&self) -> Option<EndCause> {
        match &self.state {
            State::Failed { cause } | State::Crashed { cause } => Some(cause.clone()),
            State::Stopped => Some(EndCause::Exit { code: 0 }),
            _ => None,
        }
    }
}

impl Record {
    fn beginning_as(standing: Standing) -> Self {
        Self {
            standing,
            failures: 0,
            restarts: 0,
            recent: VecDeque::new(),
            sessions: false,
        }
    }
}
