//! Writes what has to be kept, one commit after the other, while nobody waits who does not have to. Changes that come
//! while another commit is written are written together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use par_store::{Change, KeptAgent, Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::chain;

/// Changes of one commit, at most.
const LARGEST_COMMIT: usize = 256;

/// The hand on the state file that everybody has.
#[derive(Clone)]
pub(crate) struct Keeper {
    file: File,
    jobs: mpsc::UnboundedSender<Job>,
}

/// None while another process may have it.
type File = Arc<Mutex<Option<Arc<Store>>>>;

struct Job {
    changes: Vec<Change>,
    done: oneshot::Sender<Result<(), String>>,
}

impl Keeper {
    /// The second writes until all hands are gone.
    pub(crate) fn new(store: Arc<Store>) -> (Self, impl Future<Output = ()> + 'static) {
        let (jobs, waiting) = mpsc::unbounded_channel();
        let file = Arc::new(Mutex::new(Some(store)));
        let writing = write(Arc::clone(&file), waiting);
        (Self { file, jobs }, writing)
    }

    /// None while another process may have the file.
    pub(crate) fn store(&self) -> Option<Arc<Store>> {
        lock(&self.file).clone()
    }

    /// Writes what is left and closes the file; ends when nobody here has it open.
    pub(crate) async fn close(&self) -> Result<(), String> {
        self.commit(vec![]).await?;
        let taken = lock(&self.file).take();
        let mut left = taken.ok_or("it is closed already")?;
        loop {
            match Arc::try_unwrap(left) {
                Ok(store) => {
                    let closed = tokio::task::spawn_blocking(move || drop(store)).await;
                    return closed.map_err(|error| error.to_string());
                }
                // Somebody reads just now.
                Err(shared) => left = shared,
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn reopen(&self, store: Arc<Store>) {
        lock(&self.file).replace(store);
    }

    /// All of them, or none and why. In the order of the calls, whether or not anybody waits for the answer.
    pub(crate) fn commit(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<(), String>> + 'static + use<> {
        let (done, is_done) = oneshot::channel();
        let gone = || Err("the supervisor is ending".to_owned());
        let sent = self.jobs.send(Job { changes, done });
        async move {
            match sent {
                Ok(()) => is_done.await.unwrap_or_else(|_| gone()),
                Err(_) => gone(),
            }
        }
    }

    /// An agent with all its releases.
    pub(crate) async fn agent(
        &self,
        agent: &par_model::AgentId,
    ) -> Result<Option<KeptAgent>, String> {
        let store = self.store().ok_or(CLOSED)?;
        let agent = agent.clone();
        let read = tokio::task::spawn_blocking(move || store.agent(&agent));
        let read = read.await.map_err(|error| error.to_string())?;
        read.map_err(|error| chain(&error))
    }
}

const CLOSED: &str = "another supervisor goes on from here";

fn lock(file: &File) -> MutexGuard<'_, Option<Arc<Store>>> {
    // It is whole after every step.
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write(file: File, mut waiting: mpsc::UnboundedReceiver<Job>) {
    while let Some(first) = waiting.recv().await {
        let mut size = first.changes.len();
        let mut jobs = vec![first];
        while size < LARGEST_COMMIT
            && let Ok(job) = waiting.try_recv()
        {
            size += job.changes.len();
            jobs.push(job);
        }
        let Some(store) = lock(&file).clone() else {
            jobs.into_iter()
                .for_each(|job| tell(job.done, Err(CLOSED.to_owned())));
            continue;
        };
        let written = tokio::task::spawn_blocking(move || write_all(&store, jobs)).await;
        if let Err(error) = written {
            tracing::error!(%error, "what had to be kept was not written");
        }
    }
}

/// Together if that can be done; else each by itself, so that one that cannot hinders no other.
fn write_all(store: &Store, jobs: Vec<Job>) {
    let sizes: Vec<usize> = jobs.iter().map(|job| job.changes.len()).collect();
    let mut answers = vec![];
    let mut changes = vec![];
    for job in jobs {
        changes.extend(job.changes);
        answers.push(job.done);
    }
    if commit(store, &changes).is_ok() {
        return answers.into_iter().for_each(|done| tell(done, Ok(())));
    }
    let mut rest = changes.as_slice();
    for (done, size) in answers.into_iter().zip(sizes) {
        let (own, others) = rest.split_at(size);
        rest = others;
        tell(done, commit(store, own).map_err(|error| chain(&error)));
    }
}

/// Nobody else has the file open, so the revision is as we left it.
fn commit(store: &Store, changes: &[Change]) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    store.commit(store.revision()?, changes).map(|_| ())
}

fn tell(done: oneshot::Sender<Result<(), String>>, outcome: Result<(), String>) {
    // Not everybody waits.
    let _nobody_waits = done.send(outcome);
}
