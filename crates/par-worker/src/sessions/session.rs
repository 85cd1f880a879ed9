//! One session: an interpreter while it has one, and what outlives it.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use par_model::{CallError, SessionId, Tier};
use par_protocol::session::{Ran, Values};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::interpreter::Interpreter;

pub(super) struct Session {
    /// None for a run that wants a session to itself.
    pub(super) id: Option<SessionId>,
    pub(super) tier: Tier,
    pub(super) created: SystemTime,
    pub(super) last_accessed: Cell<SystemTime>,
    pub(super) ended: CancellationToken,
    /// One run at a time, in the order in which they came.
    turn: Arc<Semaphore>,
    waiting: Cell<usize>,
    pub(super) interpreter: RefCell<Option<Interpreter>>,
    pub(super) kept: RefCell<Kept>,
}

/// What is left of a session when its interpreter is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// Of the last run that succeeded.
    pub(super) variables: Values,
    /// Those among them that do not come back from their MessagePack form.
    opaque: Vec<String>,
    pub(super) code: Option<String>,
    /// Of the first interpreter; later ones go on in it.
    pub(super) folder: Option<PathBuf>,
    pub(super) runs: u64,
}

impl Session {
    pub(super) fn new(id: Option<SessionId>, tier: Tier, ended: CancellationToken) -> Self {
        let now = SystemTime::now();
        Self {
            id,
            tier,
            created: now,
            last_accessed: Cell::new(now),
            ended,
            turn: Arc::new(Semaphore::new(1)),
            waiting: Cell::new(0),
            interpreter: RefCell::default(),
            kept: RefCell::default(),
        }
    }

    /// Whether a run may wait here.
    pub(super) fn admit(&self, most: usize) -> Result<(), CallError> {
        (self.waiting.get() <= most)
            .then_some(())
            .ok_or(CallError::Overloaded)
    }

    /// The turn of whoever asks, until it is dropped.
    pub(super) async fn turn(&self) -> OwnedSemaphorePermit {
        self.waiting.set(self.waiting.get() + 1);
        let _waits = Waits(&self.waiting);
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        turn.expect("the semaphore is never closed")
    }
}

struct Waits<'a>(&'a Cell<usize>);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Kept {
    pub(super) fn succeeded(&mut self, code: String, ran: &Ran) {
        self.variables = ran.variables.clone();
        self.opaque = ran.opaque.clone();
        self.code = Some(code);
    }

    /// What is remembered, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let values = self
            .variables
            .iter()
            .map(|(name, value)| name.len() + value.len());
        let code = self.code.as_ref().map_or(0, String::len);
        (values.sum::<usize>() + code) as u64
    }

    /// Variables that a new interpreter can have again.
    pub(super) fn restorable(&self) -> Values {
        let plain = |(name, _): &(&String, _)| !self.opaque.contains(name);
        let values = self.variables.iter().filter(plain);
        values
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// What the end of an interpreter does to the session's variables, in words; empty when it has none.
    pub(super) fn consequence(&self) -> String {
        if self.variables.is_empty() {
            return String::new();
        }
        let (lost, kept): (Vec<&str>, Vec<&str>) = self
            .variables
            .keys()
            .map(String::as_str)
            .partition(|name| self.opaque.iter().any(|opaque| opaque == name));
        format!("; kept: {}; lost: {}", listed(&kept), listed(&lost))
    }
}

/// Some names, and how many more.
pub(super) fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 10;
    match names.len() {
        0 => "nothing".to_owned(),
        count if count > SHOWN => {
            format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN)
        }
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_is_kept_and_the_rest_is_said_to_be_lost() {
        let value = |name: &str| (name.to_owned(), bytes::Bytes::from_static(b"\x01"));
        let ran = Ran {
            variables: [value("a"), value("frame")].into(),
            opaque: vec!["frame".to_owned()],
            ..Ran::default()
        };
        let mut kept = Kept::default();
        assert_eq!(kept.consequence(), "");
        kept.succeeded("a = 1".to_owned(), &ran);
        assert_eq!(kept.restorable(), [value("a")].into());
        assert_eq!(kept.consequence(), "; kept: a; lost: frame");
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(listed(&names).ends_with("n9 and 2 more"));
    }
}
