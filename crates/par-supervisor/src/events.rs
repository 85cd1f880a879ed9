//! What happened to agents and to the supervisor: written down in the store, and told to whoever follows.
//!
//! ```text
//! note ──▶ bounded queue ──▶ writer ──batches──▶ store
//!                              └──▶ tail (the last ones) ──▶ followers: API, webhooks
//! ```
//!
//! Whoever notes never waits. An event is told when it is on disk, and has its number then. Nothing is kept for a
//! follower: it reads where everybody reads, the last events from memory and older ones from the store.

mod follower;
pub(crate) mod webhooks;
mod writer;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use par_model::event::{Event, EventKind, NewEvent};
use par_store::{EventFilter, KeptEvent, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use follower::Follower;
pub(crate) use writer::Writer;

/// Noted, and not yet written.
const WAITING: usize = 4096;
/// The last events, in memory.
const TAIL: usize = 1024;
/// Bytes of a reason, and of details.
const LONGEST_TEXT: usize = 8 << 10;

/// The hand that notes and reads.
pub(crate) struct EventLog {
    book: Arc<Book>,
    incoming: mpsc::Sender<Noted>,
}

enum Noted {
    Event(Box<NewEvent>),
    /// Says when everything before it is written.
    Mark(oneshot::Sender<()>),
}

/// What writer, readers and followers share.
struct Book {
    store: Arc<Store>,
    tail: Mutex<VecDeque<Arc<KeptEvent>>>,
    /// The number of the last event that is written.
    last: watch::Sender<u64>,
    /// Events that found the queue full, since it was last said.
    lost: AtomicU64,
}

impl EventLog {
    /// The log, and its writer, which has to run.
    pub(crate) fn new(store: Arc<Store>) -> Result<(Self, Writer), StoreError> {
        let newest = store.newest_events(&EventFilter::default(), 1)?;
        let last = newest.first().map_or(0, |kept| kept.id);
        let book = Arc::new(Book {
            store,
            tail: Mutex::default(),
            last: watch::Sender::new(last),
            lost: AtomicU64::new(0),
        });
        let (incoming, noted) = mpsc::channel(WAITING);
        let writer = Writer::new(Arc::clone(&book), noted);
        Ok((Self { book, incoming }, writer))
    }

    /// Never waits: what finds the queue full is lost, and counted.
    pub(crate) fn note(&self, event: NewEvent) {
        let event = Noted::Event(Box::new(bounded(event)));
        if self.incoming.try_send(event).is_err() {
            self.book.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything that was noted before is written, but not for ever: a disk may be full.
    pub(crate) async fn written(&self, patience: Duration) {
        let marked = async {
            let (mark, reached) = oneshot::channel();
            self.incoming.send(Noted::Mark(mark)).await.ok()?;
            reached.await.ok()
        };
        if tokio::time::timeout(patience, marked).await.is_err() {
            tracing::warn!("the last events could not be written in time");
        }
    }

    /// The newest `limit` events that are meant, newest first.
    pub(crate) async fn newest(
        &self,
        filter: EventFilter,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, StoreError> {
        let store = Arc::clone(&self.book.store);
        blocking(move || store.newest_events(&filter, limit)).await
    }

    /// Number of the last event.
    pub(crate) fn last(&self) -> u64 {
        *self.book.last.borrow()
    }

    /// Whoever reads all that is meant and comes after the event `after`.
    pub(crate) fn follow(&self, filter: EventFilter, after: u64) -> Follower {
        Follower::new(Arc::clone(&self.book), filter, after.min(self.last()))
    }
}

impl Book {
    fn tail(&self) -> MutexGuard<'_, VecDeque<Arc<KeptEvent>>> {
        // Whole after every step: a thread that panicked left nothing half done.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, events: impl Iterator<Item = KeptEvent>) {
        let mut tail = self.tail();
        tail.extend(events.map(Arc::new));
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
        let last = tail.back().map_or(0, |kept| kept.id);
        drop(tail);
        self.last.send_replace(last);
    }
}

/// Does what blocks elsewhere.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and with it whoever waits here.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

fn bounded(mut event: NewEvent) -> NewEvent {
    if let Some(reason) = &mut event.reason
        && reason.len() > LONGEST_TEXT
    {
        reason.truncate(reason.floor_char_boundary(LONGEST_TEXT));
        reason.push('…');
    }
    event.details = event.details.filter(|details| {
        let fits = details.to_string().len() <= LONGEST_TEXT;
        if !fits {
            tracing::warn!(kind = %event.kind, "an event's details are too long, and left out");
        }
        fits
    });
    event
}

/// An event of now.
pub(crate) fn happening(kind: EventKind) -> NewEvent {
    NewEvent::new(now_ms(), kind)
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// As people, followers and webhooks see it.
pub(crate) fn to_api(kept: &KeptEvent) -> Event {
    let event = &kept.event;
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(event.at_ms));
    // What no calendar has was written by a clock that jumped.
    let at = at.filter(|_| event.at_ms < LAST_MILLISECOND);
    Event {
        id: kept.id,
        at: humantime::format_rfc3339_millis(at.unwrap_or(UNIX_EPOCH)).to_string(),
        kind: event.kind,
        agent: event.agent.as_ref().map(ToString::to_string),
        replica: event.replica.map(|replica| replica.0),
        release: event.release,
        reason: event.reason.clone(),
        details: event.details.clone(),
    }
}

/// Of the year 9999.
const LAST_MILLISECOND: u64 = 253_402_300_799_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_one_event_takes_is_bounded() {
        let long = "ä".repeat(LONGEST_TEXT);
        let event = bounded(NewEvent {
            reason: Some(long.clone()),
            details: Some(json!({ "long": long })),
            ..happening(EventKind::Failed)
        });
        assert!(event.reason.expect("kept").len() <= LONGEST_TEXT + "…".len());
        assert_eq!(event.details, None);
    }

    #[test]
    fn a_time_that_no_calendar_has_is_shown_all_the_same() {
        for at_ms in [0, LAST_MILLISECOND, u64::MAX] {
            let kept = KeptEvent {
                id: 1,
                event: NewEvent::new(at_ms, EventKind::Ready),
            };
            assert!(to_api(&kept).at.ends_with('Z'));
        }
    }
}
