//! One session: an interpreter while it has one, and what outlives it.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use par_model::{CallError, Tier};
use par_protocol::session::{Ran, Values};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::interpreter::{Interpreter, tier_memory};
use super::table::Key;
use crate::idle::Held;

/// What a name and its value take where they are kept, besides their bytes; about.
const AROUND_A_VALUE: usize = 160;

pub(super) struct Session {
    /// None for a run that wants a session to itself.
    pub(super) key: Option<Key>,
    pub(super) tier: Tier,
    pub(super) created: SystemTime,
    pub(super) last_accessed: Cell<SystemTime>,
    pub(super) ended: CancellationToken,
    /// One run at a time, in the order in which they came.
    turn: Arc<Semaphore>,
    /// Runs that wait, and the one that does not.
    waiting: Cell<usize>,
    pub(super) interpreter: RefCell<Option<Interpreter>>,
    pub(super) kept: RefCell<Kept>,
    /// Keeps the agent from being taken for idle, if people come back to this session.
    _held: Option<Held>,
}

/// What is left of a session when its interpreter is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// Of the last run that succeeded.
    pub(super) variables: Values,
    /// Those among them that do not come back from their MessagePack form.
    opaque: HashSet<String>,
    /// Names that nobody was told the value of.
    hidden: Vec<String>,
    pub(super) code: Option<String>,
    /// How its interpreter ended after a run; the next one has not been told yet.
    pub(super) ended_between: Option<String>,
    /// Of the first interpreter; later ones go on in it.
    pub(super) folder: Option<PathBuf>,
    pub(super) runs: u64,
}

impl Session {
    pub(super) fn new(
        key: Option<Key>,
        tier: Tier,
        ended: CancellationToken,
        held: Option<Held>,
    ) -> Self {
        let now = SystemTime::now();
        Self {
            key,
            tier,
            created: now,
            last_accessed: Cell::new(now),
            ended,
            turn: Arc::new(Semaphore::new(1)),
            waiting: Cell::new(0),
            interpreter: RefCell::default(),
            kept: RefCell::default(),
            _held: held,
        }
    }

    /// Ends the interpreter of a session that runs nothing, if it has more memory than it may have.
    pub(super) fn end_if_too_large(&self) {
        let most = tier_memory(self.tier);
        let mut interpreter = self.interpreter.borrow_mut();
        let Some(interpreter) = interpreter.as_mut() else {
            return;
        };
        let id = self.key.as_ref().map(|key| key.id.as_str());
        if let Some(most) = interpreter.disk.look() {
            warn!(
                session = id,
                most, "files of an idle session take more than they may"
            );
            interpreter.kill();
        } else if interpreter.has_more_than(most) {
            warn!(
                session = id,
                most, "an idle session has more memory than it may have"
            );
            interpreter.kill();
        }
    }

    /// A place in the line of this session, unless too many wait already.
    pub(super) fn line_up(self: &Rc<Self>, most: usize) -> Result<InLine, CallError> {
        if self.waiting.get() > most {
            return Err(CallError::Overloaded);
        }
        self.waiting.set(self.waiting.get() + 1);
        Ok(InLine(Rc::clone(self)))
    }

    /// The turn of whoever asks, until it is dropped.
    pub(super) async fn turn(&self) -> OwnedSemaphorePermit {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        turn.expect("the semaphore is never closed")
    }
}

/// A run that waits for its turn or has it, until this is dropped.
pub(super) struct InLine(Rc<Session>);

impl Drop for InLine {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

impl Kept {
    pub(super) fn succeeded(&mut self, code: String, ran: &Ran) {
        self.variables = ran.variables.clone();
        self.opaque = ran.opaque.iter().cloned().collect();
        self.hidden = ran.hidden.clone();
        self.code = Some(code);
    }

    /// What is remembered, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let values = self.variables.iter();
        let values = values.map(|(name, value)| name.len() + value.len() + AROUND_A_VALUE);
        let names = self.opaque.iter().chain(&self.hidden);
        let names = names.map(|name| name.len() + AROUND_A_VALUE);
        let code = self.code.as_ref().map_or(0, String::len);
        (values.sum::<usize>() + names.sum::<usize>() + code) as u64
    }

    /// Variables that a new interpreter can have again.
    pub(super) fn restorable(&self) -> Values {
        let plain = |(name, _): &(&String, _)| !self.opaque.contains(*name);
        let values = self.variables.iter().filter(plain);
        values
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// What the end of an interpreter does to the session's variables, in words; empty when it has none.
    pub(super) fn consequence(&self) -> String {
        if self.variables.is_empty() && self.hidden.is_empty() {
            return String::new();
        }
        let names = self.variables.keys().map(String::as_str);
        let (mut lost, kept): (Vec<&str>, Vec<&str>) =
            names.partition(|name| self.opaque.contains(*name));
        lost.extend(self.hidden.iter().map(String::as_str));
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
            hidden: vec!["math".to_owned()],
            ..Ran::default()
        };
        let mut kept = Kept::default();
        assert_eq!(kept.consequence(), "");
        kept.succeeded("a = 1".to_owned(), &ran);
        assert_eq!(kept.restorable(), [value("a")].into());
        assert_eq!(kept.consequence(), "; kept: a; lost: frame, math");
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(listed(&names).ends_with("n9 and 2 more"));
    }
}
