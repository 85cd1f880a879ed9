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
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use par_telemetry::metrics::Tally;

use crate::body::{BoxError, ReplyBody};
use crate::grpc;

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
    Leave,
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
    pulse: Arc<Pulse>,
    verdict: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
}

/// What the stream of a connection tells the clock.
#[derive(Default)]
pub(crate) struct Pulse {
    /// The caller does not take what was written.
    pub(crate) blocked: AtomicBool,
    /// The caller has sent something.
    pub(crate) heard: AtomicBool,
    /// A request has come and is not answered yet.
    pub(crate) on_call: AtomicBool,
}

impl Pulse {
    /// Whether the stream is between two answers.
    pub(crate) fn lets_us_answer(&self) -> bool {
        !self.on_call.load(Ordering::Relaxed) && !self.blocked.load(Ordering::Relaxed)
    }
}

/// The wait for the head of an answer; it begins anew whenever more of the request has come.
#[derive(Clone, Copy)]
struct AnswerWait {
    rounds: u32,
    until: u32,
}

impl Watch {
    /// `slack` is the shortest wait for an answer that has to be measured.
    pub(crate) fn new(patience: Duration, slack: Duration) -> Self {
        let shortest = patience.min(slack) / ROUNDS;
        let interval = shortest.clamp(Duration::from_millis(1), LONGEST_ROUND);
        Self {
            interval,
            patience: rounds_in(patience, interval),
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
        let until = self.round.get().wrapping_add(rounds);
        self.answer_wait.set(Some(AnswerWait { rounds, until }));
    }

    fn answer_is_overdue(&self) -> bool {
        let Some(wait) = self.answer_wait.get() else {
            return false;
        };
        if self.pulse.heard.swap(false, Ordering::Relaxed) {
            self.restart_answer_wait(wait.rounds);
            return false;
        }
        let left = wait.until.wrapping_sub(self.round.get());
        left > MOST_ROUNDS // it has passed zero
    }

    /// How long it has waited for a request; none for one that has anything else to do.
    fn idle_rounds(&self, now: u32) -> Option<u32> {
        let leaves = self.verdict.get() == Verdict::Leave;
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
        OnCall(Rc::clone(self))
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

/// A request is being answered, until dropped.
pub(crate) struct OnCall(Rc<Watched>);

impl Drop for OnCall {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get() - 1);
        if self.0.calls.get() > 0 {
            return;
        }
        self.0.waiting_since.set(Some(self.0.round.get()));
        self.0.pulse.on_call.store(false, Ordering::Relaxed);
    }
}

/// The body of an answer; its end is the end of the call.
pub(crate) struct Attended {
    pub(crate) body: ReplyBody,
    pub(crate) _on_call: OnCall,
    /// None for what is not for an agent.
    pub(crate) tally: Option<Tally>,
}

impl Body for Attended {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
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
