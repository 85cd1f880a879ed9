//! The time by which lines grow old.

use std::time::{Instant, SystemTime};

use super::archive::milliseconds;

/// What the clock said when this life of the supervisor began, and what has passed since: a clock that jumps ahead
/// makes no line old.
pub(super) struct SteadyClock {
    began: SystemTime,
    since: Instant,
}

impl SteadyClock {
    pub(super) fn start() -> Self {
        Self {
            began: SystemTime::now(),
            since: Instant::now(),
        }
    }

    /// Milliseconds since 1970.
    pub(super) fn now_ms(&self) -> u64 {
        milliseconds(self.began + self.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn what_the_clock_says_later_does_not_count() {
        let clock = SteadyClock {
            began: UNIX_EPOCH + Duration::from_secs(60),
            since: Instant::now(),
        };
        assert!((60_000..120_000).contains(&clock.now_ms()));
    }
}
