//! The last lines of every agent, in memory, and whoever follows them.

mod follower;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use par_model::AgentId;
use par_model::api::{LogExtra, LogRecord};
use par_model::log::{Level, LogLine};
use tokio::sync::watch;

pub(crate) use follower::{Follower, News};

/// Bytes of messages that are kept of one agent.
const KEPT_BYTES: usize = 2 << 20;
const KEPT_LINES: usize = 10_000;

#[derive(Default)]
pub(crate) struct LogStore {
    rings: Mutex<BTreeMap<AgentId, Ring>>,
    /// Lines that ever came, of all agents.
    count: AtomicU64,
    news: watch::Sender<()>,
}

pub(crate) struct Entry {
    /// Grows from line to line, whoever wrote it.
    number: u64,
    pub(crate) agent: AgentId,
    pub(crate) line: LogLine,
}

/// The lines of one agent. They are counted from `begin` on; those before [`Ring::first`] are gone.
struct Ring {
    begin: u64,
    gone: u64,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

/// Which lines are meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) agent: Option<AgentId>,
    /// Exactly this level.
    pub(crate) level: Option<Level>,
}

impl Filter {
    pub(crate) fn takes(&self, entry: &Entry) -> bool {
        self.means(&entry.agent) && self.level.is_none_or(|level| level == entry.line.level)
    }

    fn means(&self, agent: &AgentId) -> bool {
        self.agent.as_ref().is_none_or(|meant| meant == agent)
    }
}

impl LogStore {
    pub(crate) fn add(&self, agent: &AgentId, line: LogLine) {
        let mut rings = self.rings();
        let number = self.count.fetch_add(1, Ordering::Relaxed); // Ordered by the lock.
        let ring = rings
            .entry(agent.clone())
            // Whatever was counted for this agent before was less.
            .or_insert_with(|| Ring::new(number));
        ring.add(Arc::new(Entry {
            number,
            agent: agent.clone(),
            line,
        }));
        drop(rings);
        self.news.send_replace(());
    }

    /// The newest `limit` lines that are meant, newest first.
    pub(crate) fn newest(&self, filter: &Filter, limit: usize) -> Vec<Arc<Entry>> {
        newest(&self.rings(), filter, limit)
    }

    /// The newest lines, oldest first, and whoever reads all that follow them.
    pub(crate) fn follow(
        self: &Arc<Self>,
        filter: Filter,
        limit: usize,
    ) -> (Vec<Arc<Entry>>, Follower) {
        // Under one lock: nothing is missed between them, and nothing seen twice.
        let rings = self.rings();
        let mut entries = newest(&rings, &filter, limit);
        entries.reverse();
        (entries, Follower::new(Arc::clone(self), filter, &rings))
    }

    /// Forgets the lines of one agent, or of all.
    pub(crate) fn clear(&self, agent: Option<&AgentId>) {
        match agent {
            Some(agent) => drop(self.rings().remove(agent)),
            None => self.rings().clear(),
        }
    }

    fn rings(&self) -> MutexGuard<'_, BTreeMap<AgentId, Ring>> {
        // A ring is whole after every step: a thread that panicked left nothing half done.
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest(rings: &BTreeMap<AgentId, Ring>, filter: &Filter, limit: usize) -> Vec<Arc<Entry>> {
    let mut found: Vec<Arc<Entry>> = rings
        .values()
        .flat_map(|ring| {
            ring.entries
                .iter()
                .rev()
                .filter(|entry| filter.takes(entry))
                .take(limit)
                .cloned()
        })
        .collect();
    found.sort_by_key(|entry| Reverse(entry.line.at_ms)); // Stable: lines of one moment keep their order.
    found.truncate(limit);
    found
}

impl Ring {
    fn new(begin: u64) -> Self {
        Self {
            begin,
            gone: 0,
            entries: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Where the oldest line is that is still there.
    fn first(&self) -> u64 {
        self.begin + self.gone
    }

    /// Where the next line will be.
    fn end(&self) -> u64 {
        self.first() + self.entries.len() as u64
    }

    fn get(&self, place: u64) -> Option<&Arc<Entry>> {
        let index = place.checked_sub(self.first())?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    fn add(&mut self, entry: Arc<Entry>) {
        self.bytes += entry.line.message.len();
        self.entries.push_back(entry);
        while self.bytes > KEPT_BYTES || self.entries.len() > KEPT_LINES {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.line.message.len();
            self.gone += 1;
        }
    }
}

impl Entry {
    pub(crate) fn to_api(&self) -> LogRecord {
        let at = UNIX_EPOCH + Duration::from_millis(self.line.at_ms);
        LogRecord {
            process_id: format!("par-{}", self.agent),
            timestamp: humantime::format_rfc3339_millis(at).to_string(),
            level: self.line.level,
            message: self.line.message.clone(),
            extra: LogExtra {
                stream: self.line.stream,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use par_model::log::Stream;

    fn agent(name: &str) -> AgentId {
        name.parse().expect("a valid id")
    }

    fn line(at_ms: u64, message: &str) -> LogLine {
        LogLine {
            at_ms,
            stream: Stream::Stdout,
            level: Level::Info,
            message: message.to_owned(),
        }
    }

    fn messages(entries: &[Arc<Entry>]) -> Vec<&str> {
        entries
            .iter()
            .map(|entry| entry.line.message.as_str())
            .collect()
    }

    #[test]
    fn the_newest_lines_of_all_agents_come_first() {
        let store = LogStore::default();
        store.add(&agent("a"), line(1, "first"));
        store.add(&agent("b"), line(2, "second"));
        store.add(&agent("a"), line(3, "third"));
        assert_eq!(
            messages(&store.newest(&Filter::default(), 2)),
            ["third", "second"]
        );
        let of_b = Filter {
            agent: Some(agent("b")),
            level: None,
        };
        assert_eq!(messages(&store.newest(&of_b, 9)), ["second"]);
    }

    #[test]
    fn memory_for_lines_is_bounded() {
        let store = LogStore::default();
        let long = "x".repeat(64 << 10);
        for at in 0..200 {
            store.add(&agent("a"), line(at, &long));
        }
        let kept = store.newest(&Filter::default(), usize::MAX);
        assert_eq!(kept.len(), KEPT_BYTES / long.len());
        assert_eq!(kept[0].line.at_ms, 199);
    }
}
