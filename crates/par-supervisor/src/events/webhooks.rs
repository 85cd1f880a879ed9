//! Tells others what happens: each event is posted, signed, to every hook that wants it.
//!
//! A hook is a task of its own that reads the events one after the other and remembers how far it has come, so one
//! that is down holds up nobody, and a restart goes on where it stopped. What it was sent and did not take is sent
//! again for a while, then given up; every event comes at least once, some twice, under the same `webhook-id`.

mod course;
mod post;
mod signature;
mod target;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use par_model::AgentId;
use par_model::event::{EventKind, NewEvent};
use par_store::{EventFilter, KeptEvent, Store, StoreError};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::{EventLog, blocking, happening, now_ms, to_api};
use course::{Course, Next, Reply};
pub(crate) use post::connector;
use post::{Poster, Signed};
pub use signature::Secret;
pub use target::Target;

/// Where events are sent, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    pub target: Target,
    pub secret: Secret,
    /// Without any, all kinds.
    pub kinds: BTreeSet<EventKind>,
    /// Without any, events of all agents and of the supervisor.
    pub agents: BTreeSet<AgentId>,
}

/// Of one attempt, from looking up the name to the answer.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long a place may stay unwritten while many events are sent.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Before the names of readers that are webhooks.
const READERS: &str = "webhook ";

/// Begins to send. Each hook goes on where it stopped; a new one begins with what happens next. They end with the set.
pub(crate) async fn start(
    webhooks: Vec<Webhook>,
    log: &Arc<EventLog>,
    store: &Arc<Store>,
) -> Result<JoinSet<()>, StoreError> {
    start_with(Course::default(), webhooks, log, store).await
}

async fn start_with(
    course: Course,
    webhooks: Vec<Webhook>,
    log: &Arc<EventLog>,
    store: &Arc<Store>,
) -> Result<JoinSet<()>, StoreError> {
    let mut tasks = JoinSet::new();
    let poster = Poster::for_targets(webhooks.iter().map(|webhook| &webhook.target)).await;
    let poster = Arc::new(poster);
    let readers: Vec<String> = webhooks
        .iter()
        .map(|webhook| reader(&webhook.target))
        .collect();
    store.forget_positions(READERS, &readers)?;
    for (webhook, reader) in webhooks.into_iter().zip(readers) {
        let begin = match store.position(&reader)? {
            Some(position) => position,
            None => {
                store.set_position(&reader, log.last())?;
                log.last()
            }
        };
        let hook = Hook {
            webhook,
            reader,
            log: Arc::clone(log),
            store: Arc::clone(store),
            poster: Arc::clone(&poster),
            course,
            is_failing: false,
        };
        tasks.spawn(hook.run(begin));
    }
    Ok(tasks)
}

/// The name under which a hook's place is kept: whatever in its URL is secret is not in it.
fn reader(target: &Target) -> String {
    format!("{READERS}{}", target.fingerprint())
}

struct Hook {
    webhook: Webhook,
    reader: String,
    log: Arc<EventLog>,
    store: Arc<Store>,
    poster: Arc<Poster>,
    course: Course,
    is_failing: bool,
}

impl Hook {
    async fn run(mut self, begin: u64) {
        let filter = EventFilter {
            agents: self.webhook.agents.iter().cloned().collect(),
            ..EventFilter::default()
        };
        let mut follower = self.log.follow(filter, begin);
        let mut saved = Instant::now();
        while let Some(kept) = follower.next().await {
            if !self.wants(&kept) {
                continue;
            }
            self.deliver(&kept).await;
            if !follower.is_behind() || saved.elapsed() >= SAVE_EVERY {
                self.save(kept.id).await;
                saved = Instant::now();
            }
        }
    }

    fn wants(&self, kept: &KeptEvent) -> bool {
        let kinds = &self.webhook.kinds;
        let event = &kept.event;
        (kinds.is_empty() || kinds.contains(&event.kind)) && !self.is_of_this_giving_up(event)
    }

    /// That this hook does not take events is no news for it, and would make more and more of them.
    fn is_of_this_giving_up(&self, event: &NewEvent) -> bool {
        let named = event.details.as_ref().map(|details| &details["reader"]);
        event.kind == EventKind::WebhookGaveUp && named.is_some_and(|named| *named == self.reader)
    }

    /// Sends one event until it is taken, or for long enough.
    async fn deliver(&mut self, kept: &KeptEvent) {
        let body = match serde_json::to_vec(&to_api(kept)) {
            Ok(body) => body.into(),
            Err(error) => {
                return warn!(%error, event = kept.id, "an event cannot be written as JSON");
            }
        };
        // The number alone may have been used by another supervisor.
        let id = format!("evt_{}_{}", kept.event.at_ms, kept.id);
        for attempt in 1.. {
            let reply = self.attempt(&id, &body).await;
            match self.course.next(attempt, &reply, spread()) {
                Next::Done => return self.taken(),
                Next::Again(pause) => {
                    self.refused(&reply);
                    sleep(pause).await;
                }
                Next::GiveUp => return self.give_up(kept, attempt, &reply),
            }
        }
    }

    async fn attempt(&self, id: &str, body: &bytes::Bytes) -> Reply {
        let signed = Signed::now(id, body, &self.webhook.secret, now_ms() / 1000);
        let sent = timeout(ATTEMPT, self.poster.post(&self.webhook.target, signed)).await;
        match sent {
            Ok(Ok(status)) => Reply::Status(status),
            Ok(Err(error)) => Reply::None(crate::chain(&error)),
            Err(_elapsed) => Reply::None(format!("no answer within {} s", ATTEMPT.as_secs())),
        }
    }

    fn taken(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            info!(webhook = %self.webhook.target, "a webhook takes events again");
        }
    }

    fn refused(&mut self, reply: &Reply) {
        if !std::mem::replace(&mut self.is_failing, true) {
            warn!(webhook = %self.webhook.target, %reply, "a webhook did not take an event; it is sent again");
        }
    }

    fn give_up(&mut self, kept: &KeptEvent, attempts: u32, reply: &Reply) {
        let target = &self.webhook.target;
        self.is_failing = true;
        warn!(webhook = %target, %reply, event = kept.id, attempts, "a webhook did not take an event; it is given up");
        self.log.note(NewEvent {
            agent: kept.event.agent.clone(),
            reason: Some(format!(
                "{target} did not take event {} in {attempts} attempts: {reply}",
                kept.id
            )),
            details: Some(json!({
                "webhook": target.to_string(),
                "reader": self.reader,
                "event": kept.id,
                "attempts": attempts,
            })),
            ..happening(EventKind::WebhookGaveUp)
        });
    }

    async fn save(&self, event: u64) {
        let (store, reader) = (Arc::clone(&self.store), self.reader.clone());
        let saved = blocking(move || store.set_position(&reader, event)).await;
        if let Err(error) = saved {
            let error = crate::chain(&error);
            warn!(error, webhook = %self.webhook.target, "a webhook's place was not kept: some events may come twice");
        }
    }
}

/// From 0 to 1, another each time.
fn spread() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(());
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests;
