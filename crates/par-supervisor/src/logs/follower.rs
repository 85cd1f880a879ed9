//! Whoever follows the lines. Nothing is kept for a follower: it reads where everybody reads, and what memory has given up
//! before it came there it reads from the files.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Entry, Filter, LogStore};

/// Lines that a follower takes from the files when it catches up; older ones it misses.
const CATCH_UP: usize = 10_000;

pub(crate) struct Follower {
    store: Arc<LogStore>,
    news: watch::Receiver<()>,
    filter: Filter,
    /// The number of the last line that it has passed.
    position: u64,
    /// Memory may not reach back to its position.
    is_behind: bool,
    ready: VecDeque<News>,
}

/// What a follower sees next.
#[derive(Debug)]
pub(crate) enum News {
    Line(Arc<Entry>),
    /// Lines came and went unread.
    Missed,
}

impl Follower {
    /// Begins behind the line of number `position`.
    pub(super) fn new(
        store: Arc<LogStore>,
        filter: Filter,
        position: u64,
        is_behind: bool,
    ) -> Self {
        Self {
            news: store.news.subscribe(),
            store,
            filter,
            position,
            is_behind,
            ready: VecDeque::new(),
        }
    }

    /// Waits for the next line. Loses nothing when it is cancelled.
    pub(crate) async fn next(&mut self) -> Option<News> {
        loop {
            if let Some(news) = self.ready.pop_front() {
                return Some(news);
            }
            if self.is_behind {
                self.catch_up().await;
                continue;
            }
            // Seen before the look: what comes after it is news again.
            self.news.borrow_and_update();
            match self.store.after(self.position, &self.filter) {
                Some((entries, position)) => {
                    self.position = position;
                    self.ready.extend(entries.into_iter().map(News::Line));
                }
                None => self.is_behind = true,
            }
            if self.ready.is_empty() && !self.is_behind {
                self.news.changed().await.ok()?;
            }
        }
    }

    async fn catch_up(&mut self) {
        let (filter, position) = (self.filter.clone(), self.position);
        let found = self.store.find(filter, position, CATCH_UP).await;
        let lost = self.store.has_lost_after(self.position, &self.filter);
        if found.incomplete.is_some() || found.entries.len() >= CATCH_UP || lost {
            self.ready.push_back(News::Missed);
        }
        self.position = found.position;
        self.is_behind = false;
        let entries = found.entries.into_iter().rev();
        self.ready.extend(entries.map(News::Line));
    }
}
