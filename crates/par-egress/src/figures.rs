//! What went through, counted where it goes through and read when somebody asks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use par_model::egress::EgressFigures;
use tokio::sync::Notify;

use crate::refusal::Refusal;

#[derive(Default)]
pub struct Figures {
    connections: Cell<u64>,
    sent: Cell<u64>,
    received: Cell<u64>,
    refused: RefCell<BTreeMap<&'static str, u64>>,
    changes: Notify,
}

impl Figures {
    pub fn look(&self) -> EgressFigures {
        let refused = self.refused.borrow();
        EgressFigures {
            connections: self.connections.get(),
            sent_bytes: self.sent.get(),
            received_bytes: self.received.get(),
            refused: refused
                .iter()
                .map(|(rule, count)| ((*rule).to_owned(), *count))
                .collect(),
        }
    }

    /// Ends when something was counted since this was asked last.
    pub async fn changed(&self) {
        self.changes.notified().await;
    }

    pub(crate) fn connected(&self) {
        self.count(&self.connections, 1);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.count(&self.sent, bytes);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.count(&self.received, bytes);
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        *self.refused.borrow_mut().entry(refusal.rule()).or_default() += 1;
        self.changes.notify_one();
    }

    fn count(&self, counter: &Cell<u64>, more: usize) {
        counter.set(counter.get() + more as u64);
        self.changes.notify_one();
    }
}
