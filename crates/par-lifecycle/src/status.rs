//! What people may know of an agent.

use std::collections::BTreeMap;
use std::time::Instant;

use par_model::control::EndCause;
use par_model::{AgentId, ProcessState, ReplicaId};

use crate::agent::{Agent, Incoming};
use crate::desired::Desired;
use crate::life::{Life, State, Why};
use crate::{Release, Route};

pub type FleetStatus = BTreeMap<AgentId, AgentStatus>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStatus {
    pub desired: Desired,
    pub route: Route,
    /// All replicas of the current release have answered at one time.
    pub live: bool,
    /// The replicas of the current release, by slot; one at least.
    pub replicas: Vec<ReplicaStatus>,
    pub incoming: Option<IncomingStatus>,
    /// Of releases that were replaced, or beyond the number of replicas, until their exit has been seen.
    pub leaving: Vec<ReplicaStatus>,
    /// The last release that was let go before it took the calls.
    pub failed: Option<(Release, EndCause)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingStatus {
    pub release: Release,
    /// The share of a canary, in thousandths.
    pub canary: Option<u16>,
    /// All its replicas have answered at one time.
    pub live: bool,
    pub replicas: Vec<ReplicaStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    pub slot: u32,
    /// What lives, or what would be started.
    pub release: Release,
    pub state: ProcessState,
    pub idle: Option<Idle>,
    /// `None` when nothing of it lives.
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

/// What is not there because nobody needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Its processes are held still; the next call thaws them.
    Frozen,
    /// It was stopped; the next call starts it.
    Stopped,
}

/// From the decision to start it until its exit has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    pub replica: ReplicaId,
    /// Which of the replicas of its release it is, from zero.
    pub slot: u32,
    pub release: Release,
    pub port: u16,
    pub grpc_port: u16,
    /// `None` until its worker process exists.
    pub pid: Option<u32>,
}

impl AgentStatus {
    /// All that lives or could, of whichever release.
    pub fn all_replicas(&self) -> impl Iterator<Item = &ReplicaStatus> {
        let incoming = self.incoming.iter().flat_map(|it| &it.replicas);
        self.replicas.iter().chain(incoming).chain(&self.leaving)
    }

    /// All that lives.
    pub fn incarnations(&self) -> impl Iterator<Item = Incarnation> {
        self.all_replicas().filter_map(|it| it.incarnation)
    }
}

impl Agent {
    pub(crate) fn status(&self) -> AgentStatus {
        AgentStatus {
            desired: self.desired,
            route: self.route(),
            live: self.current.live,
            replicas: self.current.lives.iter().map(Life::status).collect(),
            incoming: self.incoming.as_ref().map(Incoming::status),
            leaving: self.leaving.iter().map(Life::status).collect(),
            failed: self.failed.clone(),
        }
    }
}

impl Incoming {
    fn status(&self) -> IncomingStatus {
        IncomingStatus {
            release: self.group.release(),
            canary: self.kind.share(),
            live: self.group.live,
            replicas: self.group.lives.iter().map(Life::status).collect(),
        }
    }
}

impl Life {
    fn status(&self) -> ReplicaStatus {
        let incarnation = self.incarnation();
        ReplicaStatus {
            slot: self.slot,
            release: incarnation.map_or(self.deployment.release, |it| it.release),
            state: self.process_state(),
            idle: match self.state {
                State::Serving {
                    frozen: Some(_), ..
                } => Some(Idle::Frozen),
                State::Asleep => Some(Idle::Stopped),
                _ => None,
            },
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

    fn process_state(&self) -> ProcessState {
        match self.state {
            State::Starting(_) => ProcessState::Starting,
            State::Serving { .. } => ProcessState::Running,
            State::Retiring { .. } | State::Draining { .. } | State::Ending { .. } => {
                ProcessState::Stopping
            }
            State::Waiting { .. } | State::Crashed { .. } => ProcessState::Crashed,
            State::Failed { .. } => ProcessState::Failed,
            State::Asleep | State::Stopped | State::Gone => ProcessState::Stopped,
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
            State::Ending {
                why: Why::Silent { after },
                ..
            } => Some(EndCause::Silent { after: *after }),
            State::Serving { .. }
            | State::Retiring { .. }
            | State::Draining { .. }
            | State::Ending { .. }
            | State::Asleep
            | State::Stopped
            | State::Gone => None,
        }
    }
}
