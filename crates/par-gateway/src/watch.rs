//! One clock for all connections of a thread: callers that send no request for too long are asked to leave.
//!
//! hyper would set a timer for every head it waits for, which costs a call more than all our own work on it. Nobody
//! needs to know to the millisecond when a silent caller has been silent for half a minute.
//!
//! ```text
//! Waiting { since } ──head──► on call ──end of the answer──► Waiting { since: now }
//! ```

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::{BoxError, ReplyBody};

/// The clock is looked at so many times within the patience.
const ROUNDS: u32 = 8;

/// Every connection of one thread.
pub(crate) struct Watch {
    patience: Duration,
    round: Rc<Cell<u32>>,
    closing: Cell<bool>,
    connections: RefCell<Vec<Weak<Watched>>>,
}

/// What a connection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stay,
    /// Answer what was asked, then leave.
    Finish,
    Leave,
}

/// One connection.
pub(crate) struct Watched {
    round: Rc<Cell<u32>>,
    /// The round in which the wait for a request began; none while there is one.
    waiting_since: Cell<Option<u32>>,
    /// The caller does not take what was written.
    blocked: Arc<AtomicBool>,
    verdict: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            round: Rc::default(),
            closing: Cell::new(false),
            connections: RefCell::default(),
        }
    }

    /// How often [`Watch::look`] wants to be called.
    pub(crate) fn interval(&self) -> Duration {
        (self.patience / ROUNDS).max(Duration::from_millis(1))
    }

    pub(crate) fn enter(&self) -> Rc<Watched> {
        let watched = Rc::new(Watched {
            round: Rc::clone(&self.round),
            waiting_since: Cell::new(Some(self.round.get())),
            blocked: Arc::default(),
            verdict: Cell::new(match self.closing.get() {
                true => Verdict::Finish,
                false => Verdict::Stay,
            }),
            waker: RefCell::default(),
        });
        self.connections.borrow_mut().push(Rc::downgrade(&watched));
        watched
    }

    /// Asks those to leave who have waited for all rounds.
    pub(crate) fn look(&self) {
        self.round.set(self.round.get().wrapping_add(1));
        self.for_each(|watched| {
            if watched.has_waited_too_long() {
                watched.tell(Verdict::Leave);
            }
        });
    }

    /// Nobody waits for a further request from now on.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.for_each(|watched| watched.tell(Verdict::Finish));
    }

    fn for_each(&self, each: impl Fn(&Watched)) {
        self.connections.borrow_mut().retain(|connection| {
            let watched = connection.upgrade();
            watched.inspect(|watched| each(watched)).is_some()
        });
    }
}

impl Watched {
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

    pub(crate) fn blocked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.blocked)
    }

    pub(crate) fn begin_call(self: &Rc<Self>) -> OnCall {
        self.waiting_since.set(None);
        OnCall(Rc::clone(self))
    }

    fn has_waited_too_long(&self) -> bool {
        let Some(since) = self.waiting_since.get() else {
            return false;
        };
        let now = self.round.get();
        if self.blocked.load(Ordering::Relaxed) {
            // The answer is not taken yet: this is the caller's own pace, and no wait of ours.
            self.waiting_since.set(Some(now));
            return false;
        }
        now.wrapping_sub(since) > ROUNDS
    }

    fn tell(&self, verdict: Verdict) {
        self.verdict.set(verdict);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// A request is being answered, until dropped.
pub(crate) struct OnCall(Rc<Watched>);

impl Drop for OnCall {
    fn drop(&mut self) {
        self.0.waiting_since.set(Some(self.0.round.get()));
    }
}

/// The body of an answer; its end is the end of the call.
pub(crate) struct Attended {
    pub(crate) body: ReplyBody,
    pub(crate) _on_call: OnCall,
}

impl Body for Attended {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
