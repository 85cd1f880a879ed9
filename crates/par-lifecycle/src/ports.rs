//! Which ports are leased. HTTP and gRPC port are leased and freed as a pair.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use par_model::AgentId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) http: u16,
    pub(crate) grpc: u16,
}

/// One replica of an agent, whichever release and incarnation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Home {
    agent: AgentId,
    slot: u32,
}

impl Home {
    pub(crate) fn of(agent: &AgentId, slot: u32) -> Self {
        Self {
            agent: agent.clone(),
            slot,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    grpc_offset: u16,
    held: BTreeSet<u16>,
    /// The HTTP port that each has or had last, in the release that takes the calls. Others get it only when there is
    /// no better one.
    homes: BTreeMap<Home, u16>,
    /// How many had it last; kept beside `homes` so that no look goes through all of them.
    wanted: BTreeMap<u16, usize>,
}

impl Ports {
    pub(crate) fn new(range: RangeInclusive<u16>, grpc_offset: u16) -> Self {
        Self {
            range,
            grpc_offset,
            held: BTreeSet::new(),
            homes: BTreeMap::new(),
            wanted: BTreeMap::new(),
        }
    }

    /// The port that it had last if it can be had, else its home, else one that is nobody's, else any that is free.
    pub(crate) fn lease(
        &mut self,
        home: &Home,
        last: Option<u16>,
        tried: &BTreeSet<u16>,
    ) -> Option<Pair> {
        let free = |http: u16| self.free_pair(http).filter(|_| !tried.contains(&http));
        let home = || self.homes.get(home).copied().and_then(free);
        let nobodys = || {
            let mut range = self.range.clone();
            range.find_map(|http| free(http).filter(|_| !self.wanted.contains_key(&http)))
        };
        let any = || self.range.clone().find_map(free);

        let last = last.and_then(free);
        let pair = last.or_else(home).or_else(nobodys).or_else(any)?;
        self.hold(pair);
        Some(pair)
    }

    pub(crate) fn hold(&mut self, pair: Pair) {
        self.held.extend([pair.http, pair.grpc]);
    }

    pub(crate) fn remember(&mut self, home: Home, http: u16) {
        if self.homes.get(&home) == Some(&http) {
            return;
        }
        *self.wanted.entry(http).or_default() += 1;
        if let Some(before) = self.homes.insert(home, http) {
            self.unwant(before);
        }
    }

    pub(crate) fn free(&mut self, pair: Pair) {
        self.held.remove(&pair.http);
        self.held.remove(&pair.grpc);
    }

    pub(crate) fn forget(&mut self, agent: &AgentId) {
        let homes = self
            .homes
            .range(Home::of(agent, 0)..=Home::of(agent, u32::MAX));
        let homes: Vec<(Home, u16)> = homes.map(|(home, port)| (home.clone(), *port)).collect();
        for (home, port) in homes {
            self.homes.remove(&home);
            self.unwant(port);
        }
    }

    fn unwant(&mut self, port: u16) {
        if let Some(count) = self.wanted.get_mut(&port) {
            *count -= 1;
            if *count == 0 {
                self.wanted.remove(&port);
            }
        }
    }

    fn free_pair(&self, http: u16) -> Option<Pair> {
        let grpc = http.checked_add(self.grpc_offset)?;
        let held = self.held.contains(&http) || self.held.contains(&grpc);
        (!held).then_some(Pair { http, grpc })
    }
}
