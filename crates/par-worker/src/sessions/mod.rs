//! The execution backend: code runs in sessions, each an interpreter of its own.
//!
//! ```text
//! grpc, http ─► Sessions ─► table (who is kept) ─► session (whose turn) ─► run ─► interpreter
//!                              ▲                                             │
//!                              └── nursery (interpreters that are ready) ◄───┘
//! ```
//! A run belongs to a task of ours, not to whoever asked for it: when the caller leaves, the code is interrupted, and
//! the session is there for the next one.

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

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use par_model::{CallError, RunFailure, SessionId, SessionLimits, Tier};
use par_protocol::session::{Call, Values};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub(crate) use ground::Ground;
pub(crate) use interpreter::Serials;
use interpreter::{Interpreter, tier_memory};
use nursery::Nursery;
pub(crate) use outcome::{Answered, Event, Metrics, Outcome, map_of};
pub(crate) use output::Stream;
pub(crate) use patch::LineEdit;
pub(crate) use request::{Request, time};
use run::{Bounds, End, Finished};
use session::Session;
use table::{Full, Table};

/// Events between a run and whoever listens.
const EVENTS: usize = 16;

pub(crate) struct Sessions {
    limits: SessionLimits,
    table: RefCell<Table<Rc<Session>>>,
    nursery: Rc<Nursery>,
    /// Runs at one time.
    places: Arc<Semaphore>,
    /// No run begins any more.
    draining: Cell<bool>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// What is known of a session.
pub(crate) struct Seen {
    pub(crate) id: Option<SessionId>,
    pub(crate) tier: Tier,
    pub(crate) created: SystemTime,
    pub(crate) last_accessed: SystemTime,
    pub(crate) runs: u64,
    pub(crate) busy: bool,
}

impl Sessions {
    pub(crate) fn start(ground: Ground) -> Rc<Self> {
        let ground = Rc::new(ground);
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        let sessions = Rc::new(Self {
            limits: ground.limits,
            table: RefCell::new(Table::new(ground.limits)),
            nursery: Nursery::new(Rc::clone(&ground), tasks.clone(), closing.clone()),
            places: Arc::new(Semaphore::new(ground.limits.running)),
            draining: Cell::new(false),
            tasks,
            closing,
        });
        sessions.tasks.spawn_local(Rc::clone(&sessions).sweep());
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
        let session = self.session(id, request.tier)?;
        session.admit(self.limits.waiting)?;
        let (events_in, events) = mpsc::channel(EVENTS);
        self.note_begin(&session);
        let work = Rc::clone(self).work(session, request, events_in);
        self.tasks.spawn_local(work);
        Ok(events)
    }

    /// Runs the last code that succeeded once more, with these lines changed.
    pub(crate) fn retry(
        self: &Rc<Self>,
        id: SessionId,
        edits: &[LineEdit],
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
        };
        self.execute(Some(id), request)
    }

    /// A session and its variables.
    pub(crate) fn look(&self, id: &SessionId) -> Result<(Seen, Values), CallError> {
        let session = self.find(id)?;
        let table = self.table.borrow();
        let busy = table.iter().any(|(other, _, busy)| other == id && busy > 0);
        let variables = session.kept.borrow().variables.clone();
        Ok((seen(&session, busy), variables))
    }

    /// All of them, the latest used first.
    pub(crate) fn list(&self) -> Vec<Seen> {
        let table = self.table.borrow();
        let mut all: Vec<Seen> = table
            .iter()
            .map(|(_, session, busy)| seen(session, busy > 0))
            .collect();
        all.sort_by_key(|seen| std::cmp::Reverse(seen.last_accessed));
        all
    }

    /// Ends a session, with the run that is under way.
    pub(crate) async fn close(&self, id: &SessionId) -> Result<(), CallError> {
        self.find(id)?;
        let session = self.table.borrow_mut().remove(id);
        if let Some(session) = session {
            end(session).await;
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.table.borrow().iter().count()
    }

    /// Begins no run any more, and waits for those that have begun.
    pub(crate) async fn idle(&self) {
        self.draining.set(true);
        let all = u32::try_from(self.limits.running).unwrap_or(u32::MAX);
        let all = self.places.acquire_many(all).await;
        drop(all.expect("the semaphore is never closed"));
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
            bury(interpreter, true).await;
        }
    }

    fn find(&self, id: &SessionId) -> Result<Rc<Session>, CallError> {
        let table = self.table.borrow();
        let unknown = || CallError::UnknownSession(id.clone());
        table.get(id).map(Rc::clone).ok_or_else(unknown)
    }

    fn session(&self, id: Option<SessionId>, tier: Tier) -> Result<Rc<Session>, CallError> {
        if self.draining.get() || self.closing.is_cancelled() {
            return Err(CallError::Overloaded);
        }
        let Some(id) = id else {
            return Ok(Rc::new(Session::new(
                None,
                tier,
                self.closing.child_token(),
            )));
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
        let token = self.closing.child_token();
        let session = Rc::new(Session::new(Some(id.clone()), tier, token));
        table.insert(id, Rc::clone(&session), Instant::now());
        Ok(session)
    }

    async fn work(
        self: Rc<Self>,
        session: Rc<Session>,
        request: Request,
        events: mpsc::Sender<Event>,
    ) {
        let waited = async {
            let turn = session.turn().await;
            let place = Arc::clone(&self.places).acquire_owned().await;
            (turn, place)
        };
        let admitted = tokio::select! {
            admitted = waited => Some(admitted),
            () = events.closed() => None,
            () = session.ended.cancelled() => None,
        };
        if let Some(turn) = admitted {
            let (outcome, left) = self.run(&session, request, &events).await;
            self.note_end(&session);
            if session.id.is_none() {
                self.tasks.spawn_local(end(session));
            }
            drop(turn);
            tell(&events, left, outcome).await;
        } else {
            self.note_end(&session);
            tell(&events, [], telling::not_begun()).await;
        }
    }

    async fn run(
        &self,
        session: &Session,
        request: Request,
        events: &mpsc::Sender<Event>,
    ) -> (Outcome, Vec<Event>) {
        let mut left = vec![];
        let (mut interpreter, restore) = match self.interpreter(session, &mut left).await {
            Ok(ready) => ready,
            Err(reason) => return (telling::no_interpreter(reason), left),
        };
        let call = Call {
            code: &request.code,
            context: &request.context,
            files: &request.files,
            restore: &restore,
        };
        let call = rmp_serde::to_vec_named(&call).expect("text, bytes and maps can be said");
        let bounds = Bounds {
            time: request.time,
            memory: tier_memory(session.tier),
            output: self.limits.output,
        };
        let finished = run::perform(&mut interpreter, &call, bounds, events, &session.ended).await;
        drop(call);
        match &finished.end {
            End::Ran(_) => {
                session.interpreter.replace(Some(interpreter));
            }
            End::Gone(_) => bury(interpreter, false).await,
        }
        let (outcome, late) = settle(session, request.code, finished);
        left.extend(late);
        self.remember(session);
        (outcome, left)
    }

    /// The session's interpreter, or another one and what it is to remember.
    async fn interpreter(
        &self,
        session: &Session,
        left: &mut Vec<Event>,
    ) -> Result<(Interpreter, Values), String> {
        let earlier = session.interpreter.borrow_mut().take();
        if let Some(mut earlier) = earlier {
            if earlier.is_alive() {
                return Ok((earlier, Values::new()));
            }
            let cause = earlier.end().await;
            left.push(telling::ended_between(&cause, &session.kept.borrow()));
        }
        let folder: Option<PathBuf> = session.kept.borrow().folder.clone();
        let taken = self.nursery.take(folder).await;
        let interpreter = taken.map_err(|cause| cause.to_string())?;
        interpreter.limit(session.tier);
        let mut kept = session.kept.borrow_mut();
        kept.folder = Some(interpreter.folder().to_owned());
        Ok((interpreter, kept.restorable()))
    }

    fn note_begin(&self, session: &Session) {
        session.last_accessed.set(SystemTime::now());
        if let Some(id) = &session.id {
            self.table.borrow_mut().begin(id, Instant::now());
        }
    }

    fn note_end(&self, session: &Session) {
        session.last_accessed.set(SystemTime::now());
        if let Some(id) = &session.id {
            self.table.borrow_mut().end(id, Instant::now());
        }
    }

    fn remember(&self, session: &Session) {
        let Some(id) = &session.id else { return };
        let bytes = session.kept.borrow().bytes();
        let gone = self.table.borrow_mut().remember(id, bytes);
        for session in gone {
            self.tasks.spawn_local(end(session));
        }
    }

    /// Ends sessions that nobody uses any more.
    async fn sweep(self: Rc<Self>) {
        loop {
            let next = self.table.borrow().next_expiry(Instant::now());
            if self
                .closing
                .run_until_cancelled(sleep_until(next))
                .await
                .is_none()
            {
                return;
            }
            for session in self.table.borrow_mut().expire(Instant::now()) {
                self.tasks.spawn_local(end(session));
            }
        }
    }
}

/// What a run that is over means for its session and for its caller.
fn settle(session: &Session, code: String, finished: Finished) -> (Outcome, Vec<Event>) {
    let mut kept = session.kept.borrow_mut();
    kept.runs += 1;
    let outcome = telling::outcome(&finished, &kept);
    if let End::Ran(ran) = &finished.end
        && ran.ok
    {
        kept.succeeded(code, ran);
    }
    (outcome, finished.left.into())
}

/// A caller that has left is told nothing.
async fn tell(
    events: &mpsc::Sender<Event>,
    left: impl IntoIterator<Item = Event>,
    outcome: Outcome,
) {
    let last = Event::Ended(Box::new(outcome));
    for event in left.into_iter().chain([last]) {
        if events.send(event).await.is_err() {
            return;
        }
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
    let kept = session.kept.borrow();
    Seen {
        id: session.id.clone(),
        tier: session.tier,
        created: session.created,
        last_accessed: session.last_accessed.get(),
        runs: kept.runs,
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
        bury(interpreter, false).await;
    }
    if let Some(folder) = folder {
        remove(folder).await;
    }
}

async fn bury(interpreter: Interpreter, with_folder: bool) {
    let folder = with_folder.then(|| interpreter.folder().to_owned());
    interpreter.end().await;
    if let Some(folder) = folder {
        remove(folder).await;
    }
}

async fn remove(folder: PathBuf) {
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await;
    if let Ok(Err(error)) = removed {
        warn!(%error, "failed to remove the folder of a session");
    }
}
