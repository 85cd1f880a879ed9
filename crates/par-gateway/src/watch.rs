//! One clock for all connections of a thread: callers that send no request for too long are asked to leave, and
//! calls whose answer does not begin in time are given up. (Those of HTTP/2 have timers of their own: there are many
//! on one connection.)
//!
//! hyper would set a timer for every head it waits for, which costs a call more than all our own work on it. Nobody
//! needs to know to the millisecond when a silent caller has been silent for half a minute.
//!
//! ```text
//! Waiting { since } ──head──► on call ──end of the answer──► Waiting { since: now }
//! ```

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use par_door::Pulse;
use par_telemetry::metrics::Tally;

use crate::body::{BoxError, ReplyBody};
use crate::grpc;
use crate::ledger::Turns;
use crate::room::Config;

/// The clock is looked at so many times within the shortest wait that it measures, or once in [`LONGEST_ROUND`].
const ROUNDS: u32 = 8;
const LONGEST_ROUND: Duration = Duration::from_millis(500);

/// A difference above it is negative: rounds wrap.
const MOST_ROUNDS: u32 = u32::MAX / 2;

/// Every connection of one thread.
pub(crate) struct Watch {
    interval: Duration,
    /// Rounds that a caller may be silent.
    patience: u32,
    /// Rounds that a caller may take nothing of what there is for it.
    stall: u32,
    /// What an upload has to bring in a round to go on for longer than a call without one.
    bytes_a_round: f64,
    round: Rc<Cell<u32>>,
    /// For those who come.
    verdict: Cell<Verdict>,
    connections: RefCell<Vec<Weak<Watched>>>,
}

/// What a connection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Stay,
    /// Answer the next request, and say that it was the last.
    Retire,
    /// Answer what was asked, then leave.
    Finish,
    /// Nothing is asked.
    Leave,
    /// Nothing is taken of what is answered.
    Cut,
}

/// One connection.
pub(crate) struct Watched {
    round: Rc<Cell<u32>>,
    /// The round in which the wait for a request began; none while there is one.
    waiting_since: Cell<Option<u32>>,
    /// Requests that are being answered, and all that ever were; the latter wraps.
    calls: Cell<u32>,
    begun: Cell<u32>,
    answer_wait: Cell<Option<AnswerWait>>,
    bytes_a_round: f64,
    /// Answers of which the caller has not asked for the next piece, and the round in which it last did.
    owed: Cell<u32>,
    taken_in: Cell<u32>,
    pulse: Arc<Pulse>,
    verdict: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
}

/// The wait for the head of an answer; it begins anew whenever more of the request has come, as long as enough comes.
#[derive(Clone, Copy)]
struct AnswerWait {
    rounds: u32,
    began: u32,
    /// What the caller had sent at the beginning, and when it was last looked.
    heard_before: u64,
    heard: u64,
    until: u32,
}

impl Watch {
    pub(crate) fn new(config: &Config) -> Self {
        let Config {
            header_timeout: patience,
            answer_slack: slack, // the shortest wait for an answer that has to be measured
            stall_timeout: stall,
            ..
        } = *config;
        let shortest = patience.min(slack).min(stall) / ROUNDS;
        let interval = shortest.clamp(Duration::from_millis(1), LONGEST_ROUND);
        Self {
            interval,
            patience: rounds_in(patience, interval),
            stall: rounds_in(stall, interval),
            bytes_a_round: f64::from(config.slowest_upload) * interval.as_secs_f64(),
            round: Rc::default(),
            verdict: Cell::new(Verdict::Stay),
            connections: RefCell::default(),
        }
    }

    /// How often [`Watch::look`] wants to be called.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// For [`Watched::wait_for_answer`].
    pub(crate) fn rounds_in(&self, time: Duration) -> u32 {
        rounds_in(time, self.interval)
    }

    pub(crate) fn enter(&self) -> Rc<Watched> {
        let watched = Rc::new(Watched {
            round: Rc::clone(&self.round),
            waiting_since: Cell::new(Some(self.round.get())),
            calls: Cell::default(),
            begun: Cell::default(),
            answer_wait: Cell::default(),
            bytes_a_round: self.bytes_a_round,
            owed: Cell::default(),
            taken_in: Cell::default(),
            pulse: Arc::default(),
            verdict: Cell::new(self.verdict.get()),
            waker: RefCell::default(),
        });
        self.connections.borrow_mut().push(Rc::downgrade(&watched));
        watched
    }

    /// Asks those to leave who have waited for all rounds.
    pub(crate) fn look(&self) {
        self.round.set(self.round.get().wrapping_add(1));
        self.for_each(|watched| {
            if watched.has_waited_too_long(self.patience) {
                watched.tell(Verdict::Leave);
            }
            if watched.takes_nothing_for_longer_than(self.stall) {
                watched.tell(Verdict::Cut);
            }
            if watched.answer_is_overdue() {
                watched.wake();
            }
        });
    }

    /// Asks the connection to leave that has waited longest for a request; false if none has waited for a round.
    pub(crate) fn make_room(&self) -> bool {
        let now = self.round.get();
        let connections = self.connections.borrow();
        let waiting = connections.iter().filter_map(Weak::upgrade);
        let longest = waiting
            .filter_map(|watched| Some((watched.idle_rounds(now)?, watched)))
            .filter(|(idle, _)| *idle > 0)
            .min_by_key(|(idle, _)| Reverse(*idle)); // of equals the first, which is the oldest
        longest
            .inspect(|(_, watched)| watched.tell(Verdict::Leave))
            .is_some()
    }

    /// Another process lets callers in from now on: they are asked to go there when they can lose nothing by it.
    pub(crate) fn retire(&self) {
        self.tell_all(Verdict::Retire);
    }

    /// Nobody waits for a further request from now on.
    pub(crate) fn close(&self) {
        self.tell_all(Verdict::Finish);
    }

    fn tell_all(&self, verdict: Verdict) {
        self.verdict.set(verdict);
        self.for_each(|watched| watched.tell(verdict));
    }

    fn for_each(&self, each: impl Fn(&Watched)) {
        self.connections.borrow_mut().retain(|connection| {
            let watched = connection.upgrade();
            watched.inspect(|watched| each(watched)).is_some()
        });
    }
}

impl Watched {
    /// Whether the answer to the request at hand is the last one.
    pub(crate) fn is_retiring(&self) -> bool {
        self.verdict.get() == Verdict::Retire
    }

    /// What to do now; the task of the connection is woken when that changes.
    pub(crate) fn verdict(&self, cx: &Context<'_>) -> Verdict {
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        self.verdict.get()
    }

    /// None when the connection has to go before `first` is done.
    pub(crate) async fn unless_told_to_leave<T>(
        &self,
        first: impl Future<Output = T>,
    ) -> Option<T> {
        let mut first = pin!(first);
        poll_fn(|cx| match self.verdict(cx) {
            Verdict::Stay | Verdict::Retire => first.as_mut().poll(cx).map(Some),
            Verdict::Finish | Verdict::Leave | Verdict::Cut => Poll::Ready(None),
        })
        .await
    }

    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// None when it takes more than so many rounds, in which nothing more of the request came either.
    pub(crate) async fn wait_for_answer<T>(
        &self,
        rounds: u32,
        answer: impl Future<Output = T>,
    ) -> Option<T> {
        self.restart_answer_wait(rounds);
        let mut answer = pin!(answer);
        let answered = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if self.answer_is_overdue() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let answered = answered.await;
        self.answer_wait.set(None);
        answered
    }

    fn restart_answer_wait(&self, rounds: u32) {
        let (now, heard) = (self.round.get(), self.pulse.heard.load(Ordering::Relaxed));
        self.answer_wait.set(Some(AnswerWait {
            rounds,
            began: now,
            heard_before: heard,
            heard,
            until: now.wrapping_add(rounds),
        }));
    }

    fn answer_is_overdue(&self) -> bool {
        let Some(wait) = self.answer_wait.get() else {
            return false;
        };
        let now = self.round.get();
        let heard = self.pulse.heard.load(Ordering::Relaxed);
        if heard != wait.heard {
            let rounds = wait.extended(now, heard, self.bytes_a_round);
            let until = now.wrapping_add(rounds);
            self.answer_wait.set(Some(AnswerWait {
                heard,
                until,
                ..wait
            }));
            return rounds == 0;
        }
        wait.until.wrapping_sub(now) > MOST_ROUNDS // it has passed zero
    }

    fn takes_nothing_for_longer_than(&self, stall: u32) -> bool {
        self.owed.get() > 0 && self.round.get().wrapping_sub(self.taken_in.get()) > stall
    }

    /// How long it has waited for a request; none for one that has anything else to do.
    fn idle_rounds(&self, now: u32) -> Option<u32> {
        let leaves = self.verdict.get() >= Verdict::Leave;
        let busy = leaves || self.pulse.blocked.load(Ordering::Relaxed);
        let since = self.waiting_since.get().filter(|_| !busy)?;
        Some(now.wrapping_sub(since))
    }

    /// None during a call; the same twice when there was none in between.
    pub(crate) fn silence(&self) -> Option<u32> {
        (self.calls.get() == 0).then_some(self.begun.get())
    }

    pub(crate) fn begin_call(self: &Rc<Self>) -> OnCall {
        self.waiting_since.set(None);
        self.calls.set(self.calls.get() + 1);
        self.begun.set(self.begun.get().wrapping_add(1));
        self.pulse.on_call.store(true, Ordering::Relaxed);
        OnCall {
            watched: Rc::clone(self),
            turns: Turns::default(),
        }
    }

    fn has_waited_too_long(&self, patience: u32) -> bool {
        let Some(since) = self.waiting_since.get() else {
            return false;
        };
        let now = self.round.get();
        if self.pulse.blocked.load(Ordering::Relaxed) {
            // The answer is not taken yet: this is the caller's own pace, and no wait of ours.
            self.waiting_since.set(Some(now));
            return false;
        }
        now.wrapping_sub(since) > patience
    }

    fn tell(&self, verdict: Verdict) {
        // Who is to leave need not finish.
        self.verdict.set(self.verdict.get().max(verdict));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

fn rounds_in(time: Duration, interval: Duration) -> u32 {
    let rounds = time.as_nanos().div_ceil(interval.as_nanos().max(1));
    u32::try_from(rounds).map_or(MOST_ROUNDS, |rounds| rounds.min(MOST_ROUNDS))
}

impl AnswerWait {
    /// For how many rounds more it may wait, when something has come: as long as for a whole answer, but no longer in
    /// all than twice as long and what was sent allows.
    fn extended(&self, now: u32, heard: u64, bytes_a_round: f64) -> u32 {
        if bytes_a_round <= 0.0 {
            return self.rounds;
        }
        let earned = heard.wrapping_sub(self.heard_before) as f64 / bytes_a_round;
        let most = 2.0 * f64::from(self.rounds) + earned;
        let left = most - f64::from(now.wrapping_sub(self.began));
        self.rounds.min(left.max(0.0) as u32)
    }
}

/// A request is being answered, until dropped.
pub(crate) struct OnCall {
    watched: Rc<Watched>,
    pub(crate) turns: Turns,
}

impl Drop for OnCall {
    fn drop(&mut self) {
        let watched = &self.watched;
        watched.calls.set(watched.calls.get() - 1);
        if watched.calls.get() > 0 {
            return;
        }
        watched.waiting_since.set(Some(watched.round.get()));
        watched.pulse.on_call.store(false, Ordering::Relaxed);
    }
}

/// The body of an answer; its end is the end of the call.
pub(crate) struct Attended {
    body: ReplyBody,
    on_call: OnCall,
    /// None for what is not for an agent.
    tally: Option<Tally>,
    /// There was a piece, and the next was not asked for yet.
    is_owed: bool,
}

impl Attended {
    pub(crate) fn new(body: ReplyBody, on_call: OnCall, tally: Option<Tally>) -> Self {
        Self {
            body,
            on_call,
            tally,
            is_owed: false,
        }
    }

    fn set_owed(&mut self, is_owed: bool) {
        let watched = &self.on_call.watched;
        if is_owed {
            watched.taken_in.set(watched.round.get());
        }
        match (self.is_owed, is_owed) {
            (false, true) => watched.owed.set(watched.owed.get() + 1),
            (true, false) => watched.owed.set(watched.owed.get() - 1),
            _ => {}
        }
        self.is_owed = is_owed;
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        self.set_owed(false);
    }
}

impl Body for Attended {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.set_owed(matches!(polled, Poll::Ready(Some(_))));
        let frame = ready!(polled);
        if let (Some(tally), Some(Ok(frame))) = (&mut self.tally, &frame)
            && let Some(code) = frame.trailers_ref().and_then(grpc::status)
        {
            tally.ends_with(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
