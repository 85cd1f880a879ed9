//! Whoever follows the lines. Nothing is kept for a follower: it reads where everybody reads, and is told how many
//! lines were gone before it came to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use par_model::AgentId;
use tokio::sync::watch;

use super::{Entry, Filter, LogStore, Ring};

pub(crate) struct Follower {
    store: Arc<LogStore>,
    news: watch::Receiver<()>,
    filter: Filter,
    /// How far it has read in each ring.
    passed: BTreeMap<AgentId, u64>,
}

/// What a follower sees next.
pub(crate) enum News {
    Line(Arc<Entry>),
    /// So many lines came and went unread.
    Missed(u64),
}

impl Follower {
    /// Begins behind the last line of each ring.
    pub(super) fn new(
        store: Arc<LogStore>,
        filter: Filter,
        rings: &BTreeMap<AgentId, Ring>,
    ) -> Self {
        let passed = rings
            .iter()
            .map(|(agent, ring)| (agent.clone(), ring.end()));
        Self {
            news: store.news.subscribe(),
            filter,
            passed: passed.collect(),
            store,
        }
    }

    /// Waits for the next line. Loses nothing when it is cancelled.
    pub(crate) async fn next(&mut self) -> Option<News> {
        loop {
            // Seen before the look: what comes after it is news again.
            self.news.borrow_and_update();
            if let Some(news) = self.look() {
                return Some(news);
            }
            self.news.changed().await.ok()?;
        }
    }

    fn look(&mut self) -> Option<News> {
        let rings = self.store.rings();
        self.passed.retain(|agent, _| rings.contains_key(agent));
        let mut oldest: Option<&Arc<Entry>> = None;
        for (agent, ring) in rings.iter().filter(|(agent, _)| self.filter.means(agent)) {
            let passed = self.passed.entry(agent.clone()).or_default();
            // What was cleared on purpose is not missed.
            *passed = ring.begin.max(*passed);
            if *passed < ring.first() {
                let missed = ring.first() - *passed;
                *passed = ring.first();
                return Some(News::Missed(missed));
            }
            while let Some(entry) = ring.get(*passed) {
                if self.filter.takes(entry) {
                    if oldest.is_none_or(|other| entry.number < other.number) {
                        oldest = Some(entry);
                    }
                    break;
                }
                *passed += 1;
            }
        }
        let entry = Arc::clone(oldest?);
        *self.passed.get_mut(&entry.agent)? += 1;
        Some(News::Line(entry))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use par_model::log::{Level, LogLine, Stream};

    use super::*;

    const LONG: usize = 64 << 10;

    fn add(store: &LogStore, agent: &str, level: Level, message: &str) {
        let line = LogLine {
            at_ms: 0,
            stream: Stream::Stdout,
            level,
            message: message.to_owned(),
        };
        store.add(&agent.parse().expect("a valid id"), line);
    }

    /// All that is there to be read now; a gap is its number of lines.
    fn read(follower: &mut Follower) -> Vec<String> {
        let next = || {
            Some(match follower.next().now_or_never()?? {
                News::Line(entry) => entry.line.message.clone(),
                News::Missed(lines) => lines.to_string(),
            })
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_follower_gets_what_was_and_what_comes_in_the_order_it_came() {
        let store = Arc::new(LogStore::default());
        add(&store, "a", Level::Info, "before");
        let (before, mut follower) = store.follow(Filter::default(), 10);
        assert_eq!(before[0].line.message, "before");
        for (agent, message) in [("b", "1"), ("a", "2"), ("b", "3")] {
            add(&store, agent, Level::Info, message);
        }
        assert_eq!(read(&mut follower), ["1", "2", "3"]);
        assert!(read(&mut follower).is_empty());
    }

    #[tokio::test]
    async fn a_follower_that_waits_hears_the_next_line() {
        let store = Arc::new(LogStore::default());
        let (_, mut follower) = store.follow(Filter::default(), 10);
        let writing = async { add(&store, "a", Level::Info, "news") };
        let (news, ()) = tokio::join!(follower.next(), writing);
        assert!(matches!(news, Some(News::Line(entry)) if entry.line.message == "news"));
    }

    #[test]
    fn a_follower_sees_only_what_it_asked_for() {
        let store = Arc::new(LogStore::default());
        let filter = Filter {
            agent: Some("a".parse().expect("a valid id")),
            level: Some(Level::Error),
        };
        let (_, mut follower) = store.follow(filter, 10);
        add(&store, "a", Level::Info, "harmless");
        add(&store, "b", Level::Error, "elsewhere");
        add(&store, "a", Level::Error, "meant");
        assert_eq!(read(&mut follower), ["meant"]);
    }

    #[test]
    fn nothing_is_kept_for_a_follower_that_does_not_read_and_its_gap_is_counted() {
        let store = Arc::new(LogStore::default());
        let (_, mut follower) = store.follow(Filter::default(), 10);
        add(&store, "a", Level::Info, "first");
        let first = Arc::downgrade(&store.newest(&Filter::default(), 1)[0]);
        let long = "x".repeat(LONG);
        for _ in 0..100 {
            add(&store, "a", Level::Info, &long);
        }
        assert!(first.upgrade().is_none());
        let kept = store.newest(&Filter::default(), usize::MAX).len();
        let seen = read(&mut follower);
        assert_eq!(seen[0], (101 - kept).to_string());
        assert_eq!(seen.len(), 1 + kept);
    }

    #[test]
    fn lines_that_were_cleared_are_not_missed() {
        let store = Arc::new(LogStore::default());
        add(&store, "a", Level::Info, "seen");
        let (_, mut follower) = store.follow(Filter::default(), 10);
        add(&store, "a", Level::Info, "unread");
        store.clear(None);
        add(&store, "a", Level::Info, "after");
        assert_eq!(read(&mut follower), ["after"]);
    }
}
