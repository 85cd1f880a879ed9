//! The task of one run: from its place in line to the last word to its caller.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use par_protocol::session::{Call, Values};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::interpreter::{Interpreter, tier_memory};
use super::outcome::{Event, Outcome};
use super::request::Request;
use super::run::{self, Bounds, End, Finished};
use super::session::{InLine, Session};
use super::{Sessions, end, telling};

/// After the patience of a caller who said nothing of it.
const FOREVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// For a caller that takes nothing of what it is told.
const LONGEST_STALL: Duration = Duration::from_secs(120);

/// Why a run did not begin.
enum Unbegun {
    CallerLeft,
    SessionEnded,
    NotInTime,
    NoInterpreter(String),
}

impl Sessions {
    pub(super) async fn work(
        self: Rc<Self>,
        session: Rc<Session>,
        in_line: InLine,
        request: Request,
        events: mpsc::Sender<Event>,
    ) {
        let mut left = vec![];
        let outcome = self.have_turn(&session, request, &events, &mut left).await;
        drop(in_line);
        self.note_end(&session);
        let outcome = self.affordable(&session, outcome);
        if session.key.is_none() {
            self.tasks.spawn_local(end(Rc::clone(&session)));
        }
        self.tell(&events, left, outcome).await;
    }

    /// `left` is what the caller is told before the outcome.
    async fn have_turn(
        &self,
        session: &Rc<Session>,
        request: Request,
        events: &mpsc::Sender<Event>,
        left: &mut Vec<Event>,
    ) -> Outcome {
        let give_up = request.give_up.unwrap_or_else(|| Instant::now() + FOREVER);
        let ready = async {
            let turn = session.turn().await;
            let place = Arc::clone(&self.places).acquire_owned().await;
            let interpreter = self.interpreter(session, left).await;
            let interpreter = interpreter.map_err(Unbegun::NoInterpreter)?;
            Ok((turn, place, interpreter))
        };
        let ready = tokio::select! {
            biased; // an interpreter that is there is not dropped
            ready = ready => ready,
            () = events.closed() => Err(Unbegun::CallerLeft),
            () = session.ended.cancelled() => Err(Unbegun::SessionEnded),
            () = sleep_until(give_up) => Err(Unbegun::NotInTime),
        };
        match ready {
            Ok((_turn, _place, interpreter)) => {
                let (outcome, late) = self.run(session, request, interpreter, events).await;
                left.extend(late);
                outcome
            }
            Err(Unbegun::CallerLeft | Unbegun::SessionEnded) => telling::not_begun(),
            Err(Unbegun::NotInTime) => telling::not_in_time(),
            Err(Unbegun::NoInterpreter(reason)) => telling::no_interpreter(reason),
        }
    }

    /// The session's interpreter, or another one and what it is to remember. Nothing is lost when this is given up: an
    /// interpreter that is on its way then is the nursery's.
    async fn interpreter(
        &self,
        session: &Rc<Session>,
        left: &mut Vec<Event>,
    ) -> Result<(Interpreter, Values), String> {
        let earlier = session.interpreter.borrow_mut().take();
        if let Some(mut earlier) = earlier {
            if earlier.is_alive() {
                return Ok((earlier, Values::new()));
            }
            session.kept.borrow_mut().ended_between = Some("ended".to_owned());
            let ended = self
                .tasks
                .spawn_local(owe_a_note(Rc::clone(session), earlier));
            let _noted_or_the_worker_ends = ended.await;
        }
        let folder: Option<PathBuf> = session.kept.borrow().folder.clone();
        let taken = self.nursery.take(folder).await;
        let interpreter = taken.map_err(|cause| cause.to_string())?;
        interpreter.limit(session.tier);
        let mut kept = session.kept.borrow_mut();
        kept.folder = Some(interpreter.folder().to_owned());
        if let Some(how) = kept.ended_between.take() {
            left.push(telling::ended_between(&how, &kept));
        }
        Ok((interpreter, kept.restorable()))
    }

    async fn run(
        &self,
        session: &Session,
        request: Request,
        (mut interpreter, restore): (Interpreter, Values),
        events: &mpsc::Sender<Event>,
    ) -> (Outcome, Vec<Event>) {
        let call = Call {
            code: &request.code,
            context: &request.context,
            files: &request.files,
            restore: &restore,
        };
        let call = rmp_serde::to_vec_named(&call).expect("text, bytes and maps can be said");
        let bounds = Bounds {
            time: request.time_left(),
            memory: tier_memory(session.tier),
            output: self.limits.output,
        };
        let finished = run::perform(&mut interpreter, call, bounds, events, &session.ended).await;
        match &finished.end {
            End::Ran(_) => {
                session.interpreter.replace(Some(interpreter));
            }
            End::Gone(_) => {
                interpreter.end().await;
            }
        }
        let settled = settle(session, request.code, finished);
        self.remember(session);
        settled
    }

    fn remember(&self, session: &Session) {
        let Some(key) = &session.key else { return };
        let bytes = session.kept.borrow().bytes();
        let gone = self.table.borrow_mut().remember(key, bytes);
        for session in gone {
            self.tasks.spawn_local(end(session));
        }
    }

    /// A caller that has left is told nothing; one that takes nothing for too long, or when the worker ends, is given up.
    async fn tell(&self, events: &mpsc::Sender<Event>, left: Vec<Event>, outcome: Outcome) {
        let last = Event::Ended(Box::new(outcome));
        for event in left.into_iter().chain([last]) {
            let sent = timeout(LONGEST_STALL, events.send(event));
            // What has room is told even when the worker ends.
            let sent = tokio::select! {
                biased;
                sent = sent => sent,
                () = self.closing.cancelled() => return,
            };
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// An outcome that waits for its caller within the memory of all answers together.
    fn affordable(&self, session: &Session, mut outcome: Outcome) -> Outcome {
        let mut memory = self.admission.memory();
        match memory.grow(outcome.bytes()) {
            Ok(()) => {
                outcome.memory = Some(memory);
                outcome
            }
            Err(_) if outcome.success => telling::too_much_at_once(session.key.is_some()),
            Err(_) => telling::failed_among_too_many(outcome),
        }
    }
}

/// Ends an interpreter that was found dead; the next run that begins is told.
async fn owe_a_note(session: Rc<Session>, interpreter: Interpreter) {
    let how = interpreter.end().await.to_string();
    // Unless it was told meanwhile, without a reason.
    if let Some(owed) = session.kept.borrow_mut().ended_between.as_mut() {
        *owed = how;
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
