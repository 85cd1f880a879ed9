//! The newest lines of every agent, in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use par_model::AgentId;
use par_model::log::LogLine;

use super::keeper::weight;
use super::search::Source;
use super::{Entry, Filter};

/// Bytes that are kept of one agent, and of all.
pub(super) const KEPT_BYTES: usize = 512 << 10;
pub(super) const ALL_BYTES: usize = 32 << 20;
/// What a follower takes at once.
const PORTION: usize = 256;
const PORTION_BYTES: usize = 1 << 20;

pub(super) struct Rings {
    by_agent: BTreeMap<AgentId, Ring>,
    bytes: usize,
    /// The number of the next line.
    next: u64,
}

/// The lines of one agent.
struct Ring {
    /// Lines up to this number were there before the ring was.
    begin: u64,
    /// The number of the last line that was given up; 0 for none.
    given_up: u64,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

impl Rings {
    pub(super) fn from(first: u64) -> Self {
        Self {
            by_agent: BTreeMap::new(),
            bytes: 0,
            next: first,
        }
    }

    pub(super) fn add(&mut self, agent: &AgentId, line: LogLine) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            number: self.next,
            agent: agent.clone(),
            line,
        });
        self.next += 1;
        let begin = entry.number - 1;
        let ring = self.by_agent.entry(agent.clone());
        let ring = ring.or_insert_with(|| Ring::new(begin));
        ring.add(Arc::clone(&entry));
        self.bytes += weight(&entry);
        while ring.bytes > KEPT_BYTES {
            self.bytes -= ring.give_up();
        }
        while self.bytes > ALL_BYTES {
            let largest = self.by_agent.values_mut().max_by_key(|ring| ring.bytes);
            self.bytes -= largest.map_or(self.bytes, Ring::give_up);
        }
        entry
    }

    pub(super) fn clear(&mut self, agent: Option<&AgentId>) {
        match agent {
            Some(agent) => {
                let gone = self.by_agent.remove(agent);
                self.bytes -= gone.map_or(0, |ring| ring.bytes);
            }
            None => {
                self.by_agent.clear();
                self.bytes = 0;
            }
        }
    }

    /// The number of the newest line.
    pub(super) fn position(&self) -> u64 {
        self.next - 1
    }

    /// The next lines after `position` that are meant, and how far they reach; None when some are not here any more.
    pub(super) fn after(&self, position: u64, filter: &Filter) -> Option<(Vec<Arc<Entry>>, u64)> {
        let mut found: Vec<Arc<Entry>> = vec![];
        for ring in self.meant(filter) {
            if ring.given_up > position {
                return None;
            }
            let passed = ring
                .entries
                .partition_point(|entry| entry.number <= position);
            let after = ring.entries.range(passed..);
            let taken = after.filter(|entry| filter.takes(entry)).take(PORTION);
            found.extend(taken.cloned());
        }
        found.sort_unstable_by_key(|entry| entry.number);
        let mut bytes = 0;
        let fits = found.iter().take(PORTION).take_while(|entry| {
            let had = bytes;
            bytes += weight(entry);
            had < PORTION_BYTES
        });
        let fits = fits.count();
        let reached = match found.get(fits) {
            // At least one fits.
            Some(_) => found[fits - 1].number,
            None if fits >= PORTION => found[fits - 1].number,
            None => self.position(),
        };
        found.truncate(fits);
        Some((found, reached))
    }

    /// Where the lines are that are meant, and how far all that is.
    pub(super) fn sources(
        &self,
        filter: &Filter,
        after: u64,
        limit: usize,
        on_disk: Vec<AgentId>,
    ) -> (Vec<Source>, u64) {
        let in_memory = self.by_agent.keys().filter(|agent| filter.means(agent));
        let agents: BTreeSet<AgentId> = on_disk.into_iter().chain(in_memory.cloned()).collect();
        let source = |agent: AgentId| {
            let ring = self.by_agent.get(&agent);
            let meant: Vec<Arc<Entry>> = ring.map_or_else(Vec::new, |ring| {
                let newest = ring.entries.iter().rev();
                let newest = newest.take_while(|entry| entry.number > after);
                let meant = newest.filter(|entry| filter.takes(entry));
                meant.take(limit).cloned().collect()
            });
            Source {
                agent,
                memory: meant.into_iter(),
                floor: ring.map_or_else(|| self.position(), Ring::floor),
            }
        };
        (agents.into_iter().map(source).collect(), self.position())
    }

    fn meant<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Ring> {
        let rings = self.by_agent.iter();
        rings
            .filter(|(agent, _)| filter.means(agent))
            .map(|(_, ring)| ring)
    }
}

impl Ring {
    fn new(begin: u64) -> Self {
        Self {
            begin,
            given_up: 0,
            entries: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Lines up to this number are not here.
    fn floor(&self) -> u64 {
        self.begin.max(self.given_up)
    }

    fn add(&mut self, entry: Arc<Entry>) {
        self.bytes += weight(&entry);
        self.entries.push_back(entry);
    }

    /// Gives up the oldest line; the bytes that are free now.
    fn give_up(&mut self) -> usize {
        let Some(oldest) = self.entries.pop_front() else {
            return 0;
        };
        let bytes = weight(&oldest);
        self.bytes -= bytes;
        self.given_up = oldest.number;
        bytes
    }
}
