//! What the stream of a connection tells whoever keeps the time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Default)]
pub struct Pulse {
    /// The caller does not take what was written.
    pub blocked: AtomicBool,
    /// Bytes that the caller has sent; wraps.
    pub heard: AtomicU64,
    /// A request has come and is not answered yet.
    pub on_call: AtomicBool,
}

impl Pulse {
    /// Whether the stream is between two answers.
    pub(crate) fn lets_us_answer(&self) -> bool {
        !self.on_call.load(Ordering::Relaxed) && !self.blocked.load(Ordering::Relaxed)
    }

    /// Only the task that reads the stream calls this, so that a load and a store are enough.
    pub(crate) fn hear(&self, bytes: usize) {
        let heard = self.heard.load(Ordering::Relaxed);
        self.heard
            .store(heard.wrapping_add(bytes as u64), Ordering::Relaxed);
    }
}
