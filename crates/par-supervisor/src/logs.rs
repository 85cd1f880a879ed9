//! What agents write: the newest lines in memory, for those who follow them, and all of them in files that outlive us.
//!
//! ```text
//! a worker ── add ──▶ rings ──▶ followers
//!                └──▶ keeper (a thread) ──▶ archive: <state>/logs/<agent>/…        search: rings, then files
//! ```

mod archive;
mod filter;
mod follower;
mod keeper;
mod numbers;
mod rings;
mod search;
mod segments;
mod settings;
mod steady;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use par_model::AgentId;
use par_model::api::{LogExtra, LogRecord};
use par_model::log::{Level, LogLine, Stream};
use tokio::sync::{Semaphore, oneshot, watch};
use tracing::warn;

pub(crate) use filter::Filter;
pub(crate) use follower::{Follower, News};
use keeper::Keeper;
use numbers::Numbers;
use rings::Rings;
pub(crate) use search::Found;
use search::Search;
pub use settings::LogSettings;

/// Searches at one time: each may read much.
const SEARCHES: usize = 4;
/// How long a search waits for lines on their way to the disk.
const LONGEST_SYNC: Duration = Duration::from_secs(2);

pub(crate) struct LogStore {
    rings: Mutex<Rings>,
    news: watch::Sender<()>,
    searches: Semaphore,
    /// None when lines are in memory only.
    kept: Option<Kept>,
}

struct Kept {
    root: PathBuf,
    keeper: Keeper,
}

#[derive(Debug)]
pub(crate) struct Entry {
    /// Grows from line to line, whoever wrote it, and from life to life.
    pub(crate) number: u64,
    pub(crate) agent: AgentId,
    pub(crate) line: LogLine,
}

impl Default for LogStore {
    fn default() -> Self {
        Self::new(1, None)
    }
}

impl LogStore {
    /// Lines are kept in files below `root`. If that cannot be, they are in memory, and the log and every answer say so.
    pub(crate) fn open(root: &Path, settings: LogSettings) -> Arc<Self> {
        // If that fails, the keeper says so.
        let _said_later = segments::private_folder(root);
        let (numbers, first) = Numbers::open(root);
        Arc::new_cyclic(|store: &Weak<Self>| {
            let store = Weak::clone(store);
            let confess = move |agent: &AgentId, lines, reason: &str| {
                if let Some(store) = store.upgrade() {
                    let message =
                        format!("{lines} lines before this one are not kept on disk: {reason}");
                    store.add(agent, line_of_ours(Level::Warning, message));
                }
            };
            let keeper = Keeper::start(root, settings, numbers, Box::new(confess))
                .inspect_err(|error| warn!(%error, "logs are in memory only"));
            let kept = keeper.ok().map(|keeper| Kept {
                root: root.to_owned(),
                keeper,
            });
            Self::new(first, kept)
        })
    }

    fn new(first: u64, kept: Option<Kept>) -> Self {
        Self {
            rings: Mutex::new(Rings::from(first)),
            news: watch::Sender::default(),
            searches: Semaphore::new(SEARCHES),
            kept,
        }
    }

    pub(crate) fn add(&self, agent: &AgentId, line: LogLine) {
        {
            // Handed over under the lock: lines reach the files in the order of their numbers.
            let mut rings = self.rings();
            let entry = rings.add(agent, line);
            if let Some(kept) = &self.kept {
                kept.keeper.keep(&entry);
            }
        }
        self.news.send_replace(());
    }

    /// The newest `limit` lines that are meant and have a number above `after`.
    pub(crate) async fn find(self: &Arc<Self>, filter: Filter, after: u64, limit: usize) -> Found {
        let _turn = self.searches.acquire().await;
        let store = Arc::clone(self);
        let searched = tokio::task::spawn_blocking(move || store.search(&filter, after, limit));
        match searched.await {
            Ok(found) => found,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn search(&self, filter: &Filter, after: u64, limit: usize) -> Found {
        let (sources, position) = {
            let on_disk = self.agents_on_disk(filter);
            self.rings().sources(filter, after, limit, on_disk)
        };
        let search = Search {
            filter,
            after,
            limit,
            root: self.kept.as_ref().map(|kept| kept.root.as_path()),
            sync: &|| self.sync(),
        };
        search.run(sources, position)
    }

    /// The newest lines, oldest first, and whoever reads all that follow them.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        filter: Filter,
        limit: usize,
    ) -> (Vec<Arc<Entry>>, Follower) {
        let found = self.find(filter.clone(), 0, limit).await;
        let mut entries = found.entries;
        entries.reverse();
        let follower = Follower::new(Arc::clone(self), filter, found.position, false);
        (entries, follower)
    }

    /// Whoever goes on after the line of that number; None when there never was such a line.
    pub(crate) fn resume(self: &Arc<Self>, filter: Filter, after: u64) -> Option<Follower> {
        let is_known = after <= self.rings().position();
        is_known.then(|| Follower::new(Arc::clone(self), filter, after, true))
    }

    /// Forgets the lines of one agent, or of all. Told when their files are gone too.
    pub(crate) fn clear(&self, agent: Option<&AgentId>) -> oneshot::Receiver<()> {
        let mut rings = self.rings();
        rings.clear(agent);
        match &self.kept {
            Some(kept) => kept.keeper.clear(agent),
            None => {
                let (done, cleared) = oneshot::channel();
                let _we_hold_the_other_end = done.send(());
                cleared
            }
        }
    }

    /// Why lines are in memory only, if they are.
    pub(crate) fn trouble(&self) -> Option<String> {
        match &self.kept {
            Some(kept) => kept.keeper.trouble(),
            None => Some("they are in memory only".to_owned()),
        }
    }

    /// Writes what is left. Lines that come later are in memory only.
    pub(crate) fn close(&self) {
        if let Some(kept) = &self.kept {
            kept.keeper.close();
        }
    }

    /// The next lines in memory that are meant, and how far that is; None when memory does not reach back so far.
    fn after(&self, position: u64, filter: &Filter) -> Option<(Vec<Arc<Entry>>, u64)> {
        self.rings().after(position, filter)
    }

    /// Whether lines after that one are neither in memory nor in files.
    fn has_lost_after(&self, position: u64, filter: &Filter) -> bool {
        self.trouble().is_some() && self.rings().after(position, filter).is_none()
    }

    /// Whether there are lines of this agent in files.
    pub(crate) fn has(&self, agent: &AgentId) -> bool {
        let kept = self.kept.as_ref();
        kept.is_some_and(|kept| kept.root.join(agent.as_str()).is_dir())
    }

    fn agents_on_disk(&self, filter: &Filter) -> Vec<AgentId> {
        match &self.kept {
            Some(_) if !filter.agents.is_empty() => filter.agents.iter().cloned().collect(),
            Some(kept) => segments::agents(&kept.root).unwrap_or_else(|error| {
                warn!(%error, "failed to look for logs");
                vec![]
            }),
            None => vec![],
        }
    }

    /// Ends when everything that was said so far is in files.
    pub(crate) async fn written(self: &Arc<Self>) {
        let store = Arc::clone(self);
        if let Err(error) = tokio::task::spawn_blocking(move || store.sync()).await {
            warn!(%error, "lines may be missing from the files");
        }
    }

    fn sync(&self) {
        let Some(kept) = &self.kept else { return };
        // What is not there after that is missing, as it would be had one asked a little earlier.
        let _in_time = kept.keeper.sync().recv_timeout(LONGEST_SYNC);
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        // Rings are whole after every step: a thread that panicked left nothing half done.
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line in an agent's log that the agent did not write.
pub(crate) fn line_of_ours(level: Level, message: String) -> LogLine {
    LogLine {
        at_ms: archive::milliseconds(SystemTime::now()),
        stream: Stream::Worker,
        level,
        replica: None,
        call: None,
        message,
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
                replica: self.line.replica.map(|replica| replica.0),
                call: self.line.call.clone(),
            },
            id: Some(self.number),
        }
    }
}

#[cfg(test)]
mod tests;
