//! How much of what agents write is kept on disk.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The size at which an agent's next file is begun.
    pub file_bytes: u64,
    /// Files of each agent.
    pub files: usize,
    /// Files whose newest line is older are removed.
    pub age: Duration,
    /// Of all agents together.
    pub total_bytes: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            file_bytes: 10 << 20,
            files: 5,
            age: Duration::from_secs(14 * 24 * 3600),
            total_bytes: 1 << 30,
        }
    }
}

impl LogSettings {
    pub(super) fn age_ms(&self) -> u64 {
        u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX)
    }

    /// The time that one file covers at most: all files together cover the whole age, and go one by one.
    pub(super) fn slice_ms(&self) -> u64 {
        self.age_ms() / self.files.max(1) as u64
    }
}
