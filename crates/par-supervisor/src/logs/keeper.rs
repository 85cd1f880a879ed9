//! The thread that owns the files. Everybody else hands it lines and never waits for a disk.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use par_model::AgentId;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Entry;
use super::archive::{Archive, Unkept};
use super::numbers::Numbers;
use super::settings::LogSettings;
use super::steady::SteadyClock;

/// Bytes of lines that may wait to be written; further ones are not kept, and counted.
const WAITING_BYTES: usize = 16 << 20;
/// What a line takes besides its message, about.
pub(super) const LINE_BYTES: usize = 200;
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// After a failure that only somebody else can mend, such as a full disk.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Keeper {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    trouble: Mutex<Option<String>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    bytes: usize,
    /// Lines that found no room, by whom they were written.
    unkept: BTreeMap<AgentId, u64>,
    closed: bool,
}

enum Job {
    Line(Arc<Entry>),
    Clear(Option<AgentId>, oneshot::Sender<()>),
    /// Tells when everything before it is written.
    Sync(mpsc::Sender<()>),
}

/// Says in an agent's log how many of its lines are not on disk, and why.
pub(super) type Confess = Box<dyn Fn(&AgentId, u64, &str) + Send>;

impl Keeper {
    pub(super) fn start(
        root: &Path,
        settings: LogSettings,
        numbers: Numbers,
        confess: Confess,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            shared: Arc::clone(&shared),
            archive: Archive::new(root, settings),
            numbers,
            confess,
            unkept: BTreeMap::new(),
            retry_at: None,
            swept: None,
            clock: SteadyClock::start(),
        };
        let thread = thread::Builder::new()
            .name("logs".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) fn keep(&self, entry: &Arc<Entry>) {
        let mut queue = self.shared.queue();
        let bytes = weight(entry);
        if queue.closed {
            return;
        }
        if queue.bytes + bytes > WAITING_BYTES {
            *queue.unkept.entry(entry.agent.clone()).or_default() += 1;
            return;
        }
        queue.bytes += bytes;
        queue.jobs.push_back(Job::Line(Arc::clone(entry)));
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Told when the files are gone.
    pub(super) fn clear(&self, agent: Option<&AgentId>) -> oneshot::Receiver<()> {
        let (done, cleared) = oneshot::channel();
        self.shared.push(Job::Clear(agent.cloned(), done));
        cleared
    }

    /// Told when everything that was handed over before is written.
    pub(super) fn sync(&self) -> mpsc::Receiver<()> {
        let (done, written) = mpsc::channel();
        self.shared.push(Job::Sync(done));
        written
    }

    /// Why nothing is kept at this time.
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.shared.trouble).clone()
    }

    /// Writes what is left and ends the thread.
    pub(super) fn close(&self) {
        self.shared.queue().closed = true;
        self.shared.filled.notify_one();
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            warn!("the thread that writes logs panicked");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Its own thread may hold the last hand on the store for a moment; it cannot wait for itself.
        let is_itself = |thread: &JoinHandle<()>| thread.thread().id() == thread::current().id();
        if lock(&self.thread).as_ref().is_some_and(is_itself) {
            self.shared.queue().closed = true;
        } else {
            self.close();
        }
    }
}

impl Shared {
    fn push(&self, job: Job) {
        let mut queue = self.queue();
        if !queue.closed {
            queue.jobs.push_back(job);
        }
        drop(queue);
        self.filled.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// Waits for work, or until it is time to look for old files. None at the end.
    fn next(&self, patience: Duration) -> Option<Queue> {
        let queue = self.queue();
        let idle =
            |queue: &mut Queue| queue.jobs.is_empty() && queue.unkept.is_empty() && !queue.closed;
        let (mut queue, _) = self
            .filled
            .wait_timeout_while(queue, patience, idle)
            .unwrap_or_else(PoisonError::into_inner);
        if queue.closed && queue.jobs.is_empty() {
            return None;
        }
        let closed = queue.closed;
        let taken = std::mem::take(&mut *queue);
        queue.closed = closed;
        Some(taken)
    }
}

/// A value behind a lock is whole after every step: a thread that panicked left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn weight(entry: &Entry) -> usize {
    entry.line.message.len() + LINE_BYTES
}

struct Writer {
    shared: Arc<Shared>,
    archive: Archive,
    numbers: Numbers,
    confess: Confess,
    /// Lines that could not be written, by whom they were written.
    unkept: BTreeMap<AgentId, u64>,
    /// Set while there is trouble.
    retry_at: Option<Instant>,
    swept: Option<Instant>,
    clock: SteadyClock,
}

type Batches = BTreeMap<AgentId, Vec<Arc<Entry>>>;

impl Writer {
    fn run(mut self) {
        self.sweep();
        while let Some(queue) = self.shared.next(SWEEP_EVERY) {
            let mut batches = Batches::new();
            for job in queue.jobs {
                match job {
                    Job::Line(entry) => batches.entry(entry.agent.clone()).or_default().push(entry),
                    Job::Clear(agent, done) => {
                        forget(&mut batches, agent.as_ref());
                        self.clear(agent.as_ref());
                        // Whoever asked may have stopped waiting.
                        let _asker_left = done.send(());
                    }
                    Job::Sync(done) => {
                        self.write(std::mem::take(&mut batches));
                        let _asker_left = done.send(());
                    }
                }
            }
            self.write(batches);
            for (agent, lines) in queue.unkept {
                (self.confess)(&agent, lines, "they came faster than they could be written");
            }
            if self
                .swept
                .is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY)
            {
                self.sweep();
            }
        }
    }

    fn write(&mut self, batches: Batches) {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            for (agent, entries) in batches {
                self.count(agent, entries.len() as u64);
            }
            return;
        }
        let mut failed = false;
        let newest = batches.values().filter_map(|entries| entries.last());
        if let Some(newest) = newest.map(|entry| entry.number).max()
            && let Err(error) = self.numbers.reserve(newest)
        {
            failed = true;
            self.fail(&error);
        }
        for (agent, entries) in batches {
            if let Err(Unkept { lines, error }) = self.archive.write(&agent, &entries) {
                failed = true;
                self.fail(&error);
                self.count(agent, lines);
            }
        }
        if !failed {
            self.recover();
        }
    }

    fn count(&mut self, agent: AgentId, lines: u64) {
        *self.unkept.entry(agent).or_default() += lines;
    }

    /// Said once, not with every line.
    fn fail(&mut self, error: &io::Error) {
        if self.retry_at.is_none() {
            warn!(%error, "failed to write the logs of agents: they are only in memory until that succeeds");
        }
        *lock(&self.shared.trouble) = Some(error.to_string());
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
    }

    fn recover(&mut self) {
        if self.retry_at.take().is_none() {
            return;
        }
        info!("the logs of agents are written again");
        let reason = lock(&self.shared.trouble).take().unwrap_or_default();
        for (agent, lines) in std::mem::take(&mut self.unkept) {
            (self.confess)(&agent, lines, &reason);
        }
    }

    fn clear(&mut self, agent: Option<&AgentId>) {
        if let Err(error) = self.archive.clear(agent) {
            self.fail(&error);
        }
    }

    fn sweep(&mut self) {
        self.swept = Some(Instant::now());
        if let Err(error) = self.archive.sweep(self.clock.now_ms()) {
            self.fail(&error);
        }
    }
}

fn forget(batches: &mut Batches, agent: Option<&AgentId>) {
    match agent {
        Some(agent) => drop(batches.remove(agent)),
        None => batches.clear(),
    }
}
