//! Writes down what was noted, as much at once as has come meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use par_model::event::{EventKind, NewEvent};
use par_store::KeptEvent;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Book, Noted, blocking, happening};

/// Events of one write.
const BATCH: usize = 512;
/// Before a write that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    book: Arc<Book>,
    noted: mpsc::Receiver<Noted>,
}

impl Writer {
    pub(super) fn new(book: Arc<Book>, noted: mpsc::Receiver<Noted>) -> Self {
        Self { book, noted }
    }

    /// Ends when nobody can note anything any more.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.noted.recv_many(&mut batch, BATCH).await > 0 {
            let mut events = vec![];
            let mut marks = vec![];
            for noted in batch.drain(..) {
                match noted {
                    Noted::Event(event) => events.push(*event),
                    Noted::Mark(mark) => marks.push(mark),
                }
            }
            events.extend(self.lost());
            if !events.is_empty() {
                self.write(events).await;
            }
            for mark in marks {
                let _nobody_waits = mark.send(());
            }
        }
    }

    /// What found the queue full since the last write.
    fn lost(&self) -> Option<NewEvent> {
        let count = self.book.lost.swap(0, Ordering::Relaxed);
        (count > 0).then(|| NewEvent {
            reason: Some(format!(
                "{count} events came faster than they could be written"
            )),
            details: Some(json!({ "count": count })),
            ..happening(EventKind::EventsLost)
        })
    }

    /// Tries until it is done: meanwhile the queue fills, and what finds it full is counted.
    async fn write(&self, mut events: Vec<NewEvent>) {
        let mut failing = false;
        loop {
            let store = Arc::clone(&self.book.store);
            let (given_back, written) = blocking(move || {
                let written = store.record(&events);
                (events, written)
            })
            .await;
            events = given_back;
            match written {
                Ok(ids) => {
                    if failing {
                        tracing::info!("events are written again");
                    }
                    let kept = ids.into_iter().zip(events);
                    let kept = kept.map(|(id, event)| KeptEvent { id, event });
                    return self.book.publish(kept);
                }
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(
                        error = crate::chain(&error),
                        "events cannot be written; it is tried again every second"
                    );
                }
                Err(_said_before) => {}
            }
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use par_model::AgentId;
    use par_store::{Bounds, Change, EventFilter, NewRelease, Secrets, Store};

    use super::super::{EventLog, WAITING};
    use super::*;

    fn store(folder: &std::path::Path, bounds: Bounds) -> Arc<Store> {
        Arc::new(Store::open(folder, bounds).expect("it opens"))
    }

    #[tokio::test]
    async fn what_is_noted_is_written_in_its_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = store(folder.path(), Bounds::default());
        let (log, writer) = EventLog::new(Arc::clone(&store)).expect("it opens");
        let writing = tokio::spawn(writer.run());
        for at_ms in 0..2_000 {
            log.note(NewEvent::new(at_ms, EventKind::Ready));
        }
        log.written(Duration::from_secs(60)).await;
        let kept = store.oldest_events(&EventFilter::default(), 10_000);
        let times: Vec<u64> = kept.expect("read").iter().map(|k| k.event.at_ms).collect();
        assert_eq!(times, (0..2_000).collect::<Vec<_>>());
        assert_eq!(log.last(), 2_000);
        drop(log);
        writing.await.expect("it ends with its log");
    }

    #[tokio::test]
    async fn what_comes_too_fast_is_counted_and_the_count_is_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = store(folder.path(), Bounds::default());
        let (log, writer) = EventLog::new(store).expect("it opens");
        for at_ms in 0..WAITING as u64 + 7 {
            log.note(NewEvent::new(at_ms, EventKind::Ready));
        }
        let writing = tokio::spawn(writer.run());
        log.written(Duration::from_secs(60)).await;
        let lost = |kept: &KeptEvent| kept.event.kind == EventKind::EventsLost;
        let newest = log.newest(EventFilter::default(), 10_000).await;
        let newest = newest.expect("read");
        assert_eq!(newest.len(), WAITING + 1);
        let said = newest.iter().find(|kept| lost(kept)).expect("it is said");
        assert_eq!(said.event.details, Some(json!({ "count": 7 })));
        writing.abort();
    }

    #[tokio::test]
    async fn a_disk_that_is_full_for_a_while_loses_nothing_that_fits_the_queue() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bounds = Bounds {
            bytes: 256 << 10,
            ..Bounds::default()
        };
        let store = store(folder.path(), bounds);
        let agents = fill(&store);
        let (log, writer) = EventLog::new(Arc::clone(&store)).expect("it opens");
        let writing = tokio::spawn(writer.run());
        for at_ms in 0..100 {
            log.note(NewEvent {
                reason: Some("x".repeat(500)),
                ..NewEvent::new(at_ms, EventKind::Ready)
            });
        }
        log.written(Duration::from_millis(100)).await;
        assert_eq!(log.last(), 0, "nothing was written");
        let gone: Vec<Change> = agents.into_iter().map(Change::RemoveAgent).collect();
        let revision = store.revision().expect("read");
        store.commit(revision, &gone).expect("there is room now");
        log.written(Duration::from_secs(60)).await;
        assert_eq!(log.last(), 100);
        writing.abort();
    }

    /// Adds agents until there is no more room.
    fn fill(store: &Store) -> Vec<AgentId> {
        let mut agents = vec![];
        loop {
            let agent: AgentId = format!("a{}", agents.len()).parse().expect("valid");
            let release = NewRelease {
                number: 1,
                package_id: "x".repeat(1000),
                digest: "0".repeat(64).parse().expect("valid"),
                package: "/".into(),
                env: std::collections::BTreeMap::new(),
                secrets: Secrets::default(),
                options: par_model::api::SpawnOptions::default(),
                created_at_ms: 0,
                note: None,
            };
            let change = Change::AddRelease(agent.clone(), Box::new(release));
            let revision = store.revision().expect("read");
            if store.commit(revision, &[change]).is_err() {
                return agents;
            }
            agents.push(agent);
        }
    }
}
