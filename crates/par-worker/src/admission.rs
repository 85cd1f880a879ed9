//! Who may be worked on now, who waits, who is sent away.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use par_model::control::CallLimits;
use par_model::{CallError, SessionId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::idle::{Active, Held, Idle};

/// The places of one agent.
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    waiting: Cell<u32>,
    limits: CallLimits,
    /// Bytes of JSON bodies and answers that may be in memory at one time, in KiB.
    memory: Arc<Semaphore>,
    /// Answers of the application that stream, and WebSockets: they live long and work little.
    streams: Arc<Semaphore>,
    idle: Rc<Idle>,
}

/// A call that is worked on, until this is dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _active: Active,
}

/// Memory that a body takes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Memory {
    all: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Memory {
    /// Makes room for a body of `bytes` in all; refused when the agent's bodies take too much already.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), CallError> {
        let held = self
            .permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits) as u64;
        let wanted = bytes.saturating_sub(SMALL_BODY).div_ceil(1024);
        let Some(more) = wanted.checked_sub(held).filter(|more| *more > 0) else {
            return Ok(());
        };
        let more = u32::try_from(more).map_err(|_| CallError::Overloaded)?;
        let permit = Arc::clone(&self.all)
            .try_acquire_many_owned(more)
            .map_err(|_| CallError::Overloaded)?;
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
        Ok(())
    }
}

/// What all bodies of an agent may take together: this many of the largest.
const LARGEST_BODIES: u64 = 4;
/// Bodies up to this size are not counted, in bytes.
const SMALL_BODY: u64 = 64 << 10;

impl Admission {
    pub(crate) fn new(limits: CallLimits, idle: Rc<Idle>) -> Rc<Self> {
        let memory =
            usize::try_from(limits.body * LARGEST_BODIES / 1024).unwrap_or(Semaphore::MAX_PERMITS);
        Rc::new(Self {
            places: Arc::new(Semaphore::new(limits.concurrency as usize)),
            waiting: Cell::new(0),
            limits,
            memory: Arc::new(Semaphore::new(memory.min(Semaphore::MAX_PERMITS))),
            streams: Arc::new(Semaphore::new(limits.streams as usize)),
            idle,
        })
    }

    pub(crate) fn limits(&self) -> CallLimits {
        self.limits
    }

    /// Calls that are worked on now.
    pub(crate) fn in_flight(&self) -> u32 {
        let free = u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX);
        self.limits.concurrency.saturating_sub(free)
    }

    /// Calls that wait for a place.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.get()
    }

    /// Waits until no call is worked on.
    pub(crate) async fn idle(&self) {
        let all = Arc::clone(&self.places)
            .acquire_many_owned(self.limits.concurrency)
            .await;
        drop(all.expect("the semaphore is never closed"));
    }

    /// A place, now or when one is free; refused when too many wait already.
    pub(crate) async fn enter(&self) -> Result<Place, CallError> {
        let active = self.idle.begin();
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(Place {
                _permit: permit,
                _active: active,
            });
        }
        if self.waiting.get() >= self.limits.queue {
            return Err(CallError::Overloaded);
        }
        let _waiting = Waiting::new(&self.waiting);
        let permit = Arc::clone(&self.places).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        Ok(Place {
            _permit: permit,
            _active: active,
        })
    }

    /// A place among the streams, for a call whose answer has begun; refused when there are too many.
    pub(crate) fn stream(&self) -> Result<Place, CallError> {
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        let permit = permit.map_err(|_| CallError::Overloaded)?;
        Ok(Place {
            _permit: permit,
            _active: self.idle.begin(),
        })
    }

    /// A run in a session begins: nobody may be frozen meanwhile.
    pub(crate) fn run(&self) -> Active {
        self.idle.begin()
    }

    /// A session begins.
    pub(crate) fn session(&self, id: SessionId) -> Held {
        self.idle.begin_session(id)
    }

    /// Memory for a body, none yet.
    pub(crate) fn memory(&self) -> Memory {
        Memory {
            all: Arc::clone(&self.memory),
            permit: None,
        }
    }
}

/// Counts one that waits, also when it stops waiting early.
struct Waiting<'a>(&'a Cell<u32>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Duration, timeout};

    fn admission(concurrency: u32, queue: u32) -> Rc<Admission> {
        let limits = CallLimits {
            concurrency,
            queue,
            ..CallLimits::default()
        };
        let (reporter, _reports) = crate::reports::channel();
        Admission::new(limits, Idle::new(None, reporter))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_a_place_and_the_next_one_is_sent_away() {
        let admission = admission(1, 1);
        let first = admission.enter().await.expect("a free place");
        let (second, third) = tokio::join!(
            timeout(Duration::from_secs(1), admission.enter()),
            admission.enter()
        );
        assert!(second.is_err(), "the place was taken");
        assert!(third.is_err_and(|error| error == CallError::Overloaded));
        drop(first);
        assert!(
            admission.enter().await.is_ok(),
            "whoever stopped waiting left no trace"
        );
    }

    #[test]
    fn bodies_together_stay_within_their_memory() {
        let admission = admission(1, 1);
        let largest = admission.limits().body;
        let with = |bytes| {
            let mut memory = admission.memory();
            memory.grow(bytes).map(|()| memory)
        };
        let taken: Vec<_> = (0..LARGEST_BODIES)
            .map(|_| with(largest).expect("room"))
            .collect();
        assert!(with(largest).is_err_and(|error| error == CallError::Overloaded));
        assert!(with(10).is_ok(), "small bodies always fit");
        drop(taken);
        assert!(with(largest).is_ok());
    }
}
