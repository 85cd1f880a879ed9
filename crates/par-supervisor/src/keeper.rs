//! Writes what has to be kept, one commit after the other, while nobody waits who does not have to. Changes that come
//! while another commit is written are written together.

use std::sync::Arc;

use par_store::{Change, KeptAgent, Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::chain;

/// Changes of one commit, at most.
const LARGEST_COMMIT: usize = 256;

/// The hand on the state file that everybody has.
#[derive(Clone)]
pub(crate) struct Keeper {
    store: Arc<Store>,
    jobs: mpsc::UnboundedSender<Job>,
}

struct Job {
    changes: Vec<Change>,
    done: oneshot::Sender<Result<(), String>>,
}

impl Keeper {
    /// The second writes until all hands are gone.
    pub(crate) fn new(store: Arc<Store>) -> (Self, impl Future<Output = ()> + 'static) {
        let (jobs, waiting) = mpsc::unbounded_channel();
        let writing = write(Arc::clone(&store), waiting);
        (Self { store, jobs }, writing)
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Writes what is left and closes the file.
    pub(crate) async fn close(&self) -> Result<(), String> {
        self.commit(vec![]).await?;
        let store = Arc::clone(&self.store);
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        closed.map_err(|error| error.to_string())
    }

    pub(crate) async fn reopen(&self) -> Result<(), String> {
        let store = Arc::clone(&self.store);
        let opened = tokio::task::spawn_blocking(move || store.reopen()).await;
        let opened = opened.map_err(|error| error.to_string())?;
        opened.map_err(|error| chain(&error))
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
        let (store, agent) = (Arc::clone(&self.store), agent.clone());
        let read = tokio::task::spawn_blocking(move || store.agent(&agent));
        let read = read.await.map_err(|error| error.to_string())?;
        read.map_err(|error| chain(&error))
    }
}

async fn write(store: Arc<Store>, mut waiting: mpsc::UnboundedReceiver<Job>) {
    while let Some(first) = waiting.recv().await {
        let mut size = first.changes.len();
        let mut jobs = vec![first];
        while size < LARGEST_COMMIT
            && let Ok(job) = waiting.try_recv()
        {
            size += job.changes.len();
            jobs.push(job);
        }
        let store = Arc::clone(&store);
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
