//! Interpreters that are ready before anybody asks for one: starting one takes longer than most runs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use par_model::control::EndCause;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::bury_with_folder;
use super::ground::Ground;
use super::interpreter::Interpreter;

/// Interpreters that start at one time: more would only slow each other down.
const STARTING: usize = 4;

pub(super) struct Nursery {
    ground: Rc<Ground>,
    ready: RefCell<VecDeque<Interpreter>>,
    /// On their way to `ready`.
    coming: Cell<usize>,
    starting: Arc<Semaphore>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Nursery {
    pub(super) fn new(
        ground: Rc<Ground>,
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> Rc<Self> {
        Rc::new(Self {
            ground,
            ready: RefCell::default(),
            coming: Cell::new(0),
            starting: Arc::new(Semaphore::new(STARTING)),
            tasks,
            closing,
        })
    }

    /// One that is ready, or a new one; always a new one for a session that has a folder already.
    pub(super) async fn take(
        self: &Rc<Self>,
        folder: Option<PathBuf>,
    ) -> Result<Interpreter, EndCause> {
        let ready = match folder {
            Some(_) => None,
            None => self.pop(),
        };
        let taken = match ready {
            Some(interpreter) => Ok(interpreter),
            None => self.started(folder).await,
        };
        self.refill();
        taken
    }

    /// A new one. Who does not wait for it any more leaves it to the next one, or to its end.
    async fn started(self: &Rc<Self>, folder: Option<PathBuf>) -> Result<Interpreter, EndCause> {
        let (mut given, taken) = oneshot::channel();
        let nursery = Rc::clone(self);
        self.tasks.spawn_local(async move {
            let is_new = folder.is_none();
            // Only what has begun to start goes on without anybody who waits for it.
            let turn = tokio::select! {
                biased;
                () = given.closed() => return,
                () = nursery.closing.cancelled() => return,
                turn = nursery.starting.acquire() => turn,
            };
            let _turn = turn.expect("the semaphore is never closed");
            let start = Interpreter::start(&nursery.ground, folder);
            let Some(started) = nursery.closing.run_until_cancelled(start).await else {
                return;
            };
            match given.send(started) {
                Err(Ok(interpreter)) if is_new => nursery.keep(interpreter).await,
                Err(Ok(interpreter)) => {
                    interpreter.end().await;
                }
                Err(Err(_)) | Ok(()) => {}
            }
        });
        taken.await.unwrap_or(Err(EndCause::Asked))
    }

    /// For the next one, unless there are enough.
    async fn keep(&self, interpreter: Interpreter) {
        let there = self.ready.borrow().len();
        if there < self.ground.limits.warm && !self.closing.is_cancelled() {
            self.ready.borrow_mut().push_back(interpreter);
        } else {
            bury_with_folder(interpreter).await;
        }
    }

    /// Starts as many as are missing, in the background.
    pub(super) fn refill(self: &Rc<Self>) {
        let there = self.ready.borrow().len() + self.coming.get();
        for _ in there..self.ground.limits.warm {
            self.coming.set(self.coming.get() + 1);
            let nursery = Rc::clone(self);
            self.tasks.spawn_local(async move {
                let started = nursery
                    .closing
                    .run_until_cancelled(nursery.start(None))
                    .await;
                nursery.coming.set(nursery.coming.get() - 1);
                match started {
                    Some(Ok(interpreter)) => nursery.keep(interpreter).await,
                    Some(Err(cause)) => warn!(%cause, "an interpreter did not start"),
                    None => {}
                }
            });
        }
    }

    pub(super) fn drain(&self) -> Vec<Interpreter> {
        self.ready.borrow_mut().drain(..).collect()
    }

    /// One that is alive.
    fn pop(&self) -> Option<Interpreter> {
        loop {
            let mut interpreter = self.ready.borrow_mut().pop_front()?;
            if interpreter.is_alive() {
                return Some(interpreter);
            }
            self.tasks.spawn_local(bury_with_folder(interpreter));
        }
    }

    async fn start(&self, folder: Option<PathBuf>) -> Result<Interpreter, EndCause> {
        let turn = self.starting.acquire().await;
        let _turn = turn.expect("the semaphore is never closed");
        Interpreter::start(&self.ground, folder).await
    }
}
