//! Which ports are leased. HTTP and gRPC port are leased and freed as a pair.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use par_model::AgentId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) http: u16,
    pub(crate) grpc: u16,
}

#[derive(Debug)]
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    grpc_offset: u16,
    held: BTreeSet<u16>,
    /// The HTTP port that each agent had last. Others get it only when there is no better one.
    homes: BTreeMap<AgentId, u16>,
}

impl Ports {
    pub(crate) fn new(range: RangeInclusive<u16>, grpc_offset: u16) -> Self {
        Self {
            range,
            grpc_offset,
            held: BTreeSet::new(),
            homes: BTreeMap::new(),
        }
    }

    /// The agent's last port if it can be had, else one that is nobody's, else any that is free.
    pub(crate) fn lease(&mut self, agent: &AgentId, tried: &BTreeSet<u16>) -> Option<Pair> {
        let free = |http: u16| self.free_pair(http).filter(|_| !tried.contains(&http));
        let homes: BTreeSet<u16> = self.homes.values().copied().collect();
        let home = self.homes.get(agent).copied().and_then(free);
        let nobodys = || {
            let mut range = self.range.clone();
            range.find_map(|http| free(http).filter(|_| !homes.contains(&http)))
        };
        let any = || self.range.clone().find_map(free);

        let pair = home.or_else(nobodys).or_else(any)?;
        self.held.extend([pair.http, pair.grpc]);
        self.homes.insert(agent.clone(), pair.http);
        Some(pair)
    }

    pub(crate) fn free(&mut self, pair: Pair) {
        self.held.remove(&pair.http);
        self.held.remove(&pair.grpc);
    }

    pub(crate) fn forget(&mut self, agent: &AgentId) {
        self.homes.remove(agent);
    }

    fn free_pair(&self, http: u16) -> Option<Pair> {
        let grpc = http.checked_add(self.grpc_offset)?;
        let held = self.held.contains(&http) || self.held.contains(&grpc);
        (!held).then_some(Pair { http, grpc })
    }
}
