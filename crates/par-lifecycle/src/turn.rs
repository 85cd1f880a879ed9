//! One turn of the machine: the time, what a decision may draw on, and what has been decided so far.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use par_model::{AgentId, ReplicaId};

use crate::ports::{Pair, Ports};
use crate::{Action, Incarnation, Release, Settings};

/// Longer than anybody waits; keeps every sum of an instant and a duration representable.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What the agents of one fleet share.
#[derive(Debug)]
pub(crate) struct Supplies {
    pub(crate) settings: Settings,
    ports: Ports,
    next_replica: u64,
}

impl Supplies {
    pub(crate) fn new(settings: Settings) -> Self {
        let ports = Ports::new(settings.ports.clone(), settings.grpc_offset);
        Self {
            settings,
            ports,
            next_replica: 1,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    pub(crate) actions: Vec<Action>,
    supplies: &'a mut Supplies,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(now: Instant, supplies: &'a mut Supplies) -> Self {
        Self {
            now,
            actions: Vec::new(),
            supplies,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.supplies.settings
    }

    pub(crate) fn after(&self, wait: Duration) -> Instant {
        self.now + wait.min(FOREVER)
    }

    /// A new incarnation with a new id and ports that nobody else has; `None` when no port is free.
    pub(crate) fn incarnation(
        &mut self,
        agent: &AgentId,
        release: Release,
        tried: &BTreeSet<u16>,
    ) -> Option<Incarnation> {
        let Pair { http, grpc } = self.supplies.ports.lease(agent, tried)?;
        let replica = ReplicaId(self.supplies.next_replica);
        self.supplies.next_replica += 1;
        Some(Incarnation {
            replica,
            release,
            port: http,
            grpc_port: grpc,
            pid: None,
        })
    }

    /// Its exit has been seen: its ports are free.
    pub(crate) fn over(&mut self, incarnation: Incarnation) {
        self.supplies.ports.free(Pair {
            http: incarnation.port,
            grpc: incarnation.grpc_port,
        });
    }

    pub(crate) fn forget(&mut self, agent: &AgentId) {
        self.supplies.ports.forget(agent);
        self.actions.push(Action::Forget(agent.clone()));
    }
}
