//! The execution backend: code runs in sessions, each an interpreter of its own.
//!
//! ```text
//! grpc, http ─► Sessions ─► table (who is kept) ─► session (whose turn) ─► run ─► interpreter
//!                              ▲                                             │
//!                              └── nursery (interpreters that are ready) ◄───┘
//! ```
//! A run belongs to a task of ours, not to whoever asked for it: when the caller leaves, the code is interrupted, and
//! the session is there for the next one.

mod bounds;
mod disk;
mod ground;
mod interpreter;
mod nursery;
mod outcome;
mod output;
mod patch;
mod request;
mod run;
mod session;
mod table;
mod telling;
mod work;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use par_model::{CallError, RunFailure, SessionId, SessionLimits, Tier};
use par_protocol::session::Values;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::admission::Admission;
use crate::idle::Active;
pub(crate) use ground::Ground;
use interpreter::Interpreter;
pub(crate) use interpreter::Serials;
use nursery::Nursery;
pub(crate) use outcome::{Answered, Event, Metrics, Outcome, map_of};
pub(crate) use output::Stream;
pub(crate) use patch::LineEdit;
pub(crate) use request::{Request, time};
use session::Session;
use table::{Full, Table};

/// Between two looks at the memory of sessions that run nothing.
const IDLE_LOOK: Duration = Duration::from_secs(5);
/// Events between a run and whoever listens.
const EVENTS: usize = 16;

pub(crate) struct Sessions {
    limits: SessionLimits,
    table: RefCell<Table<Rc<Session>>>,
    nursery: Rc<Nursery>,
    /// Runs at one time.
    places: Arc<Semaphore>,
    /// Runs that wait, run, or are told to their callers.
    admitted: Cell<usize>,
    /// One of them is over.
    over: Notify,
    /// What their answers may take is counted with the agent's own.
    admission: Rc<Admission>,
    /// No run begins any more.
    draining: Cell<bool>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// What is known of a session.
pub(crate) struct Seen {
    /// None for a run that has a session to itself.
    pub(crate) id: Option<SessionId>,
    pub(crate) tier: Tier,
    pub(crate) created: SystemTime,
    pub(crate) last_accessed: SystemTime,
    pub(crate) runs: u64,
    pub(crate) busy: bool,
}

impl Sessions {
    pub(crate) fn start(ground: Ground, admission: Rc<Admission>) -> Rc<Self> {
        let ground = Rc::new(ground);
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        let sessions = Rc::new(Self {
            limits: ground.limits,
            table: RefCell::new(Table::new(ground.limits)),
            nursery: Nursery::new(Rc::clone(&ground), tasks.clone(), closing.clone()),
            places: Arc::new(Semaphore::new(ground.limits.running)),
            admitted: Cell::new(0),
            over: Notify::new(),
            admission,
            draining: Cell::new(false),
            tasks,
            closing,
        });
        sessions.tasks.spawn_local(Rc::clone(&sessions).sweep());
        sessions
            .tasks
            .spawn_local(Rc::clone(&sessions).watch_idle());
        sessions
    }

    /// Has interpreters ready from now on.
    pub(crate) fn warm_up(&self) {
        self.nursery.refill();
    }

    pub(crate) fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    /// Runs code in the session of this name, which begins if there is none; without a name in one that ends with
    /// the run. The last event is [`Event::Ended`]; dropping the receiver stops the run.
    pub(crate) fn execute(
        self: &Rc<Self>,
        id: Option<SessionId>,
        request: Request,
    ) -> Result<mpsc::Receiver<Event>, CallError> {
        let admitted = self.admit()?;
        let session = self.session(id, request.tier)?;
        let in_line = session.line_up(self.limits.waiting)?;
        let (events_in, events) = mpsc::channel(EVENTS);
        self.note_begin(&session);
        let work = Rc::clone(self).work(session, in_line, request, events_in);
        self.tasks.spawn_local(async move {
            let _until_it_is_told = admitted;
            work.await;
        });
        Ok(events)
    }

    /// Runs the last code that succeeded once more, with these lines changed.
    pub(crate) fn retry(
        self: &Rc<Self>,
        id: SessionId,
        edits: &[LineEdit],
        give_up: Option<Instant>,
    ) -> Result<mpsc::Receiver<Event>, CallError> {
        let session = self.find(&id)?;
        let code = session.kept.borrow().code.clone();
        let patched = match code {
            None => Err("No previous execution to retry".to_owned()),
            Some(code) => patch::apply(&code, edits)
                .map_err(|error| format!("the patch does not fit: {error}")),
        };
        let code = match patched {
            Ok(code) => code,
            Err(refusal) => return Ok(refused(refusal)),
        };
        let request = Request {
            code,
            context: Values::new(),
            files: vec![],
            tier: session.tier,
            time: self.limits.time,
            give_up,
        };
        self.execute(Some(id), request)
    }

    /// A session and its variables.
    pub(crate) fn look(&self, id: &SessionId) -> Result<(Seen, Values), CallError> {
        let session = self.find(id)?;
        let table = self.table.borrow();
        let busy = table.iter().any(|(other, _, busy)| other == id && busy);
        let variables = session.kept.borrow().variables.clone();
        Ok((seen(&session, busy), variables))
    }

    /// All of them, the latest used first.
    pub(crate) fn list(&self) -> Vec<Seen> {
        let table = self.table.borrow();
        let sessions = table.iter();
        let mut all: Vec<Seen> = sessions
            .map(|(_, session, busy)| seen(session, busy))
            .collect();
        all.sort_by_key(|seen| std::cmp::Reverse(seen.last_accessed));
        all
    }

    /// Ends a session, with the run that is under way. That goes on when whoever asked for it does not wait.
    pub(crate) async fn close(&self, id: &SessionId) -> Result<(), CallError> {
        self.find(id)?;
        let session = self.table.borrow_mut().remove(id);
        if let Some(session) = session {
            let ended = self.tasks.spawn_local(end(session));
            let _ended_or_the_worker_ends = ended.await;
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.table.borrow().iter().count()
    }

    /// Begins no run any more, and waits for those that were admitted.
    pub(crate) async fn idle(&self) {
        self.draining.set(true);
        while self.admitted.get() > 0 {
            self.over.notified().await;
        }
    }

    /// Ends all sessions and waits until nothing of them runs.
    pub(crate) async fn end(&self) {
        self.closing.cancel();
        for session in self.table.borrow_mut().clear() {
            self.tasks.spawn_local(end(session));
        }
        self.tasks.close();
        self.tasks.wait().await;
        for interpreter in self.nursery.drain() {
            bury_with_folder(interpreter).await;
        }
    }

    fn admit(self: &Rc<Self>) -> Result<Admitted, CallError> {
        let full = self.admitted.get() >= self.limits.running + self.limits.queue;
        if full || self.draining.get() || self.closing.is_cancelled() {
            return Err(CallError::Overloaded);
        }
        self.admitted.set(self.admitted.get() + 1);
        Ok(Admitted {
            sessions: Rc::clone(self),
            _active: self.admission.run(),
        })
    }

    fn find(&self, id: &SessionId) -> Result<Rc<Session>, CallError> {
        let table = self.table.borrow();
        let unknown = || CallError::UnknownSession(id.clone());
        table.get(id).map(Rc::clone).ok_or_else(unknown)
    }

    fn session(&self, id: Option<SessionId>, tier: Tier) -> Result<Rc<Session>, CallError> {
        let ended = self.closing.child_token();
        let Some(id) = id else {
            return Ok(Rc::new(Session::new(None, tier, ended, None)));
        };
        if let Some(session) = self.table.borrow().get(&id) {
            let has = session.tier;
            // Who asks for the smallest may have said nothing at all.
            return match tier > has {
                true => Err(CallError::TierTooSmall { has, asked: tier }),
                false => Ok(Rc::clone(session)),
            };
        }
        let mut table = self.table.borrow_mut();
        let goes = table.make_room().map_err(|Full| CallError::Overloaded)?;
        if let Some(session) = goes {
            self.tasks.spawn_local(end(session));
        }
        let held = Some(self.admission.session(id.clone()));
        let make = |key| Rc::new(Session::new(Some(key), tier, ended, held));
        Ok(table.insert(id, Instant::now(), make))
    }

    fn note_begin(&self, session: &Session) {
        session.last_accessed.set(SystemTime::now());
        if let Some(key) = &session.key {
            self.table.borrow_mut().begin(key, Instant::now());
        }
    }

    fn note_end(&self, session: &Session) {
        session.last_accessed.set(SystemTime::now());
        if let Some(key) = &session.key {
            self.table.borrow_mut().end(key, Instant::now());
        }
    }

    /// What code has left behind may grow between runs: then the interpreter ends, and the next run is told. One look
    /// after the other, so that many sessions hold up nobody.
    async fn watch_idle(self: Rc<Self>) {
        loop {
            let all = self.table.borrow().sessions();
            let pause = IDLE_LOOK / u32::try_from(all.len() + 1).unwrap_or(u32::MAX);
            for session in all.iter().map(Some).chain([None]) {
                if self
                    .closing
                    .run_until_cancelled(sleep(pause))
                    .await
                    .is_none()
                {
                    return;
                }
                if let Some(session) = session {
                    session.end_if_too_large();
                }
            }
        }
    }

    /// Ends sessions that nobody uses any more.
    async fn sweep(self: Rc<Self>) {
        loop {
            let next = self.table.borrow().next_expiry(Instant::now());
            let waited = self.closing.run_until_cancelled(sleep_until(next)).await;
            if waited.is_none() {
                return;
            }
            for session in self.table.borrow_mut().expire(Instant::now()) {
                self.tasks.spawn_local(end(session));
            }
        }
    }
}

/// A run that counts as admitted, until this is dropped.
struct Admitted {
    sessions: Rc<Sessions>,
    _active: Active,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let sessions = &self.sessions;
        sessions.admitted.set(sessions.admitted.get() - 1);
        sessions.over.notify_one();
    }
}

fn refused(reason: String) -> mpsc::Receiver<Event> {
    let (events_in, events) = mpsc::channel(1);
    let outcome = Outcome::failed(RunFailure::Input, reason);
    let sent = events_in.try_send(Event::Ended(Box::new(outcome)));
    sent.expect("the channel has room for one");
    events
}

fn seen(session: &Session, busy: bool) -> Seen {
    Seen {
        id: session.key.as_ref().map(|key| key.id.clone()),
        tier: session.tier,
        created: session.created,
        last_accessed: session.last_accessed.get(),
        runs: session.kept.borrow().runs,
        busy,
    }
}

/// Ends a session that nobody can find any more: its run, its interpreter, its folder.
async fn end(session: Rc<Session>) {
    session.ended.cancel();
    let _turn = session.turn().await;
    let interpreter = session.interpreter.borrow_mut().take();
    let folder = session.kept.borrow_mut().folder.take();
    if let Some(interpreter) = interpreter {
        interpreter.end().await;
    }
    if let Some(folder) = folder {
        remove(folder).await;
    }
}

/// For an interpreter that never was anybody's.
async fn bury_with_folder(interpreter: Interpreter) {
    let folder = interpreter.folder().to_owned();
    interpreter.end().await;
    remove(folder).await;
}

async fn remove(folder: PathBuf) {
    let removed = tokio::task::spawn_blocking(move || match par_package::remove_tree(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    });
    if let Ok(Err(error)) = removed.await {
        warn!(%error, "failed to remove the folder of a session");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_goes_whatever_code_has_made_of_it() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let folder = home.path().join("1");
        remove(folder.clone()).await;
        interpreter::make_folder(&folder, None).expect("made");
        std::fs::write(folder.join("x"), "").expect("written");
        remove(folder.clone()).await;
        std::fs::write(&folder, "in its place").expect("written");
        interpreter::make_folder(&folder, None).expect("made in its place");
        assert!(folder.is_dir());
        std::fs::remove_dir(&folder).expect("empty");
        std::fs::write(&folder, "in its place").expect("written");
        remove(folder.clone()).await;
        assert!(!folder.exists());
    }
}
