//! What people may know of an agent.

use std::collections::BTreeMap;
use std::time::Instant;

use par_model::control::EndCause;
use par_model::{AgentId, ProcessState, ReplicaId};

use crate::Release;
use crate::life::{Life, State, Why};

pub type FleetStatus = BTreeMap<AgentId, AgentStatus>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStatus {
    pub state: ProcessState,
    /// What lives, or what would be started.
    pub release: Release,
    /// `None` when nothing of the agent lives.
    pub incarnation: Option<Incarnation>,
    /// Since when it answers.
    pub ready_since: Option<Instant>,
    /// How often it was started again by itself since it was last started by hand.
    pub restart_count: u32,
    /// When it is started again.
    pub restart_at: Option<Instant>,
    /// Why it is not running.
    pub error: Option<EndCause>,
}

/// From the decision to start it until its exit has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    pub replica: ReplicaId,
    pub release: Release,
    pub port: u16,
    pub grpc_port: u16,
    /// `None` until its worker process exists.
    pub pid: Option<u32>,
}

impl Life {
    pub(crate) fn status(&self) -> AgentStatus {
        let incarnation = self.incarnation();
        AgentStatus {
            state: self.process_state(),
            release: incarnation.map_or(self.deployment.release, |it| it.release),
            incarnation,
            ready_since: match self.state {
                State::Serving { since, .. } => Some(since),
                _ => None,
            },
            restart_count: self.record.restarts,
            restart_at: match self.state {
                State::Waiting { until, .. } => Some(until),
                _ => None,
            },
            error: self.error(),
        }
    }

    /// At rest for good: neither alive, nor about to be.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.incarnation().is_none() && self.deadline().is_none()
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    fn process_state(&self) -> ProcessState {
        match self.state {
            State::Starting(_) => ProcessState::Starting,
            State::Serving { .. } => ProcessState::Running,
            State::Draining { .. } | State::Ending { .. } => ProcessState::Stopping,
            State::Waiting { .. } | State::Crashed { .. } => ProcessState::Crashed,
            State::Failed { .. } => ProcessState::Failed,
            State::Stopped | State::Gone => ProcessState::Stopped,
        }
    }

    fn error(&self) -> Option<EndCause> {
        match &self.state {
            State::Waiting { cause, .. } | State::Failed { cause } | State::Crashed { cause } => {
                Some(cause.clone())
            }
            State::Starting(attempt) => attempt.after.clone(),
            State::Ending {
                why: Why::StartTimedOut { after },
                ..
            } => Some(EndCause::StartTimedOut { after: *after }),
            State::Serving { .. }
            | State::Draining { .. }
            | State::Ending { .. }
            | State::Stopped
            | State::Gone => None,
        }
    }
}
