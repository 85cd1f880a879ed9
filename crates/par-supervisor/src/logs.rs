//! The last lines of every agent, in memory, and whoever follows them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use par_model::AgentId;
use par_model::api::{LogExtra, LogRecord};
use par_model::log::{Level, LogLine};
use tokio::sync::broadcast;

/// Bytes of messages that are kept of one agent.
const KEPT_BYTES: usize = 2 << 20;
const KEPT_LINES: usize = 10_000;
/// Lines that a follower may be behind before it misses some.
const FOLLOWER_LAG: usize = 4096;

pub(crate) struct LogStore {
    agents: Mutex<BTreeMap<AgentId, Ring>>,
    news: broadcast::Sender<Arc<Entry>>,
}

pub(crate) struct Entry {
    pub(crate) agent: AgentId,
    pub(crate) line: LogLine,
}

#[derive(Default)]
struct Ring {
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
        self.agent
            .as_ref()
            .is_none_or(|agent| *agent == entry.agent)
            && self.level.is_none_or(|level| level == entry.line.level)
    }
}

impl Default for LogStore {
    fn default() -> Self {
        Self {
            agents: Mutex::default(),
            news: broadcast::Sender::new(FOLLOWER_LAG),
        }
    }
}

impl LogStore {
    pub(crate) fn add(&self, agent: &AgentId, line: LogLine) {
        let entry = Arc::new(Entry {
            agent: agent.clone(),
            line,
        });
        let mut agents = self.agents();
        agents
            .entry(agent.clone())
            .or_default()
            .add(Arc::clone(&entry));
        // Sent under the lock: whoever reads and then follows misses nothing and sees nothing twice.
        let _nobody_follows = self.news.send(entry);
    }

    /// The newest `limit` lines that are meant, newest first.
    pub(crate) fn newest(&self, filter: &Filter, limit: usize) -> Vec<Arc<Entry>> {
        newest(&self.agents(), filter, limit)
    }

    /// The newest lines, oldest first, and all that follow them.
    pub(crate) fn follow(
        &self,
        filter: &Filter,
        limit: usize,
    ) -> (Vec<Arc<Entry>>, broadcast::Receiver<Arc<Entry>>) {
        let agents = self.agents();
        let news = self.news.subscribe();
        let mut entries = newest(&agents, filter, limit);
        entries.reverse();
        (entries, news)
    }

    /// Forgets the lines of one agent, or of all.
    pub(crate) fn clear(&self, agent: Option<&AgentId>) {
        match agent {
            Some(agent) => drop(self.agents().remove(agent)),
            None => self.agents().clear(),
        }
    }

    fn agents(&self) -> MutexGuard<'_, BTreeMap<AgentId, Ring>> {
        // A ring is whole after every step: a thread that panicked left nothing half done.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest(agents: &BTreeMap<AgentId, Ring>, filter: &Filter, limit: usize) -> Vec<Arc<Entry>> {
    let mut found: Vec<Arc<Entry>> = agents
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
    fn add(&mut self, entry: Arc<Entry>) {
        self.bytes += entry.line.message.len();
        self.entries.push_back(entry);
        while self.bytes > KEPT_BYTES || self.entries.len() > KEPT_LINES {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.line.message.len();
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

    #[test]
    fn a_follower_gets_what_was_and_what_comes() {
        let store = LogStore::default();
        store.add(&agent("a"), line(1, "before"));
        let (before, mut news) = store.follow(&Filter::default(), 10);
        store.add(&agent("a"), line(2, "after"));
        assert_eq!(messages(&before), ["before"]);
        assert_eq!(news.try_recv().expect("news").line.message, "after");
    }
}
