//! Where calls to an agent go.

use std::collections::BTreeMap;

use par_model::{AgentId, ReplicaId};

pub type Routes = BTreeMap<AgentId, Route>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Ready(Targets),
    /// Nowhere yet, but an agent that served is being started again: worth a short wait.
    Soon,
    /// Nowhere, because nobody called for long: the next call wakes it ([`crate::Command::Wake`]).
    Asleep,
    /// Nowhere.
    Down,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Releases that take calls, with their shares in thousandths: 1,000 together. None is without replicas.
    pub groups: Vec<(u16, Vec<ReplicaId>)>,
    /// Replicas that take calls for the sessions they have, and no others.
    pub leaving: Vec<ReplicaId>,
}

impl Targets {
    /// All that take calls of any kind.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaId> {
        let groups = self.groups.iter().flat_map(|(_, replicas)| replicas);
        groups.chain(&self.leaving).copied()
    }
}
