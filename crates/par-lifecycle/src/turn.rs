//! One turn of the machine: the time, what a decision may draw on, and what has been decided so far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use par_model::{AgentId, ReplicaId};

use crate::note::{Note, What};
use crate::ports::{Home, Pair, Ports};
use crate::{Action, Incarnation, Release, Settings};

/// Longer than anybody waits; keeps every sum of an instant and a duration representable.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What the agents of one fleet share.
#[derive(Debug)]
pub(crate) struct Supplies {
    pub(crate) settings: Settings,
    /// Nothing new may start.
    pub(crate) closing: bool,
    ports: Ports,
    next_replica: u64,
    /// Whose incarnation each of the living is.
    owners: BTreeMap<ReplicaId, AgentId>,
}

impl Supplies {
    pub(crate) fn new(settings: Settings) -> Self {
        let ports = Ports::new(settings.ports.clone(), settings.grpc_offset);
        Self {
            closing: false,
            ports,
            next_replica: settings.first_replica,
            owners: BTreeMap::new(),
            settings,
        }
    }

    pub(crate) fn owner(&self, replica: ReplicaId) -> Option<&AgentId> {
        self.owners.get(&replica)
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

    pub(crate) fn is_closing(&self) -> bool {
        self.supplies.closing
    }

    pub(crate) fn close(&mut self) {
        self.supplies.closing = true;
    }

    pub(crate) fn after(&self, wait: Duration) -> Instant {
        self.now + wait.min(FOREVER)
    }

    /// A new incarnation with a new id and ports that nobody else has, those around `last` before all others; `None` when
    /// no port is free.
    pub(crate) fn incarnation(
        &mut self,
        agent: &AgentId,
        slot: u32,
        release: Release,
        last: Option<u16>,
        tried: &BTreeSet<u16>,
    ) -> Option<Incarnation> {
        let home = Home::of(agent, slot);
        let Pair { http, grpc } = self.supplies.ports.lease(&home, last, tried)?;
        let replica = ReplicaId(self.supplies.next_replica);
        self.supplies.next_replica += 1;
        self.supplies.owners.insert(replica, agent.clone());
        Some(Incarnation {
            replica,
            slot,
            release,
            port: http,
            grpc_port: grpc,
            pid: None,
        })
    }

    /// One of an earlier life that goes on.
    pub(crate) fn adopt(&mut self, agent: &AgentId, incarnation: Incarnation) {
        let pair = Pair {
            http: incarnation.port,
            grpc: incarnation.grpc_port,
        };
        self.supplies.ports.hold(pair);
        let next = incarnation.replica.0.saturating_add(1);
        self.supplies.next_replica = self.supplies.next_replica.max(next);
        let owners = &mut self.supplies.owners;
        owners.insert(incarnation.replica, agent.clone());
    }

    pub(crate) fn remember_home(&mut self, agent: &AgentId, slot: u32, port: u16) {
        let home = Home::of(agent, slot);
        self.supplies.ports.remember(home, port);
    }

    /// Its exit has been seen, or it was never started: its ports are free.
    pub(crate) fn over(&mut self, incarnation: Incarnation) {
        self.supplies.owners.remove(&incarnation.replica);
        self.supplies.ports.free(Pair {
            http: incarnation.port,
            grpc: incarnation.grpc_port,
        });
    }

    pub(crate) fn forget(&mut self, agent: &AgentId) {
        self.supplies.ports.forget(agent);
        self.actions.push(Action::Forget(agent.clone()));
    }

    pub(crate) fn tell(
        &mut self,
        agent: &AgentId,
        release: Release,
        replica: Option<ReplicaId>,
        what: What,
    ) {
        self.actions.push(Action::Tell(Note {
            agent: agent.clone(),
            release,
            replica,
            what,
        }));
    }
}
