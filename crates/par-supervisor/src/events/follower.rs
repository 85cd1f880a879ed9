//! Whoever reads all events that it means, from one number on. It holds a page at most.

use std::collections::VecDeque;
use std::sync::Arc;

use par_store::{EventFilter, KeptEvent, StoreError};
use tokio::sync::watch;

use super::{Book, blocking};

/// Events of one look.
const PAGE: usize = 256;

pub(crate) struct Follower {
    book: Arc<Book>,
    last: watch::Receiver<u64>,
    filter: EventFilter,
    /// Everything up to this number was seen, or is in the page.
    passed: u64,
    page: VecDeque<Arc<KeptEvent>>,
}

impl Follower {
    pub(super) fn new(book: Arc<Book>, filter: EventFilter, after: u64) -> Self {
        Self {
            last: book.last.subscribe(),
            book,
            filter,
            passed: after,
            page: VecDeque::new(),
        }
    }

    /// Waits for the next event; `None` when there will be none any more. Loses nothing when it is cancelled.
    pub(crate) async fn next(&mut self) -> Option<Arc<KeptEvent>> {
        loop {
            if let Some(event) = self.page.pop_front() {
                return Some(event);
            }
            let last = *self.last.borrow_and_update();
            if self.passed >= last {
                self.last.changed().await.ok()?;
                continue;
            }
            if let Err(error) = self.turn_page(last).await {
                let error = crate::chain(&error);
                tracing::warn!(error, "events cannot be read; a follower is let go");
                return None;
            }
        }
    }

    /// Whether the next event is there already.
    pub(crate) fn is_behind(&self) -> bool {
        !self.page.is_empty() || self.passed < *self.last.borrow()
    }

    async fn turn_page(&mut self, last: u64) -> Result<(), StoreError> {
        if self.read_tail() {
            return Ok(());
        }
        let store = Arc::clone(&self.book.store);
        let filter = EventFilter {
            after: Some(self.passed),
            ..self.filter.clone()
        };
        let found = blocking(move || store.oldest_events(&filter, PAGE)).await?;
        // A page that is not full has all there was when `last` was the last; more may have come.
        self.passed = match found.last() {
            Some(newest) if found.len() == PAGE => newest.id,
            Some(newest) => newest.id.max(last),
            None => last,
        };
        self.page.extend(found.into_iter().map(Arc::new));
        Ok(())
    }

    /// Reads on from memory, if what comes next is still there.
    fn read_tail(&mut self) -> bool {
        let tail = self.book.tail();
        if tail
            .front()
            .is_none_or(|oldest| oldest.id > self.passed + 1)
        {
            return false;
        }
        let begin = tail.partition_point(|kept| kept.id <= self.passed);
        for kept in tail.range(begin..) {
            if self.page.len() == PAGE {
                break;
            }
            self.passed = kept.id;
            if self.filter.means(kept) {
                self.page.push_back(Arc::clone(kept));
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use par_model::event::{EventKind, NewEvent};
    use par_store::{Bounds, Store};

    use super::super::{EventLog, TAIL};
    use super::*;

    struct Bench {
        log: EventLog,
        writing: tokio::task::JoinHandle<()>,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let store = Store::open(folder.path(), Bounds::default()).expect("it opens");
            let (log, writer) = EventLog::new(Arc::new(store)).expect("it opens");
            Self {
                log,
                writing: tokio::spawn(writer.run()),
                _folder: folder,
            }
        }

        async fn note(&self, agents: impl IntoIterator<Item = &'static str>) {
            for agent in agents {
                self.log.note(NewEvent {
                    agent: Some(agent.parse().expect("an agent id")),
                    ..NewEvent::new(1, EventKind::Ready)
                });
            }
            self.log.written(Duration::from_secs(60)).await;
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            self.writing.abort();
        }
    }

    fn of(agent: &str) -> EventFilter {
        EventFilter {
            agents: vec![agent.parse().expect("an agent id")],
            ..EventFilter::default()
        }
    }

    async fn read(follower: &mut Follower, count: usize) -> Vec<u64> {
        let mut ids = vec![];
        for _ in 0..count {
            ids.push(follower.next().await.expect("there is more").id);
        }
        ids
    }

    #[tokio::test]
    async fn a_follower_goes_on_where_it_says_and_hears_what_comes() {
        let bench = Bench::new();
        bench.note(["a", "b", "a"]).await;
        let mut follower = bench.log.follow(EventFilter::default(), 1);
        assert_eq!(read(&mut follower, 2).await, [2, 3]);
        assert!(!follower.is_behind());
        assert!(follower.next().now_or_never().is_none());
        let ((), next) = tokio::join!(bench.note(["c"]), follower.next());
        assert_eq!(next.map(|kept| kept.id), Some(4));
    }

    #[tokio::test]
    async fn a_follower_sees_only_what_it_means() {
        let bench = Bench::new();
        bench.note(["a", "b", "a"]).await;
        let mut follower = bench.log.follow(of("b"), 0);
        assert_eq!(read(&mut follower, 1).await, [2]);
        bench.note(["a", "b"]).await;
        assert_eq!(read(&mut follower, 1).await, [5]);
    }

    #[tokio::test]
    async fn a_slow_follower_misses_nothing_that_memory_has_forgotten() {
        let bench = Bench::new();
        let mut all = bench.log.follow(EventFilter::default(), 0);
        let mut one = bench.log.follow(of("rare"), 0);
        bench.note(["a", "rare"]).await;
        for _ in 0..3 {
            bench.note(std::iter::repeat_n("a", TAIL)).await;
        }
        bench.note(["rare"]).await;
        let count = 3 * TAIL + 3;
        let ids = read(&mut all, count).await;
        assert_eq!(ids, (1..=count as u64).collect::<Vec<_>>());
        assert_eq!(read(&mut one, 2).await, [2, count as u64]);
    }

    #[tokio::test]
    async fn a_number_that_was_never_given_waits_for_no_other() {
        let bench = Bench::new();
        bench.note(["a"]).await;
        let mut follower = bench.log.follow(EventFilter::default(), u64::MAX);
        bench.note(["b"]).await;
        assert_eq!(read(&mut follower, 1).await, [2]);
    }
}
