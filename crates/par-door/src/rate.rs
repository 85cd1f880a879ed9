//! How often something may happen: the generic cell rate algorithm, which is a token bucket that is one number.
//!
//! The number is the time at which the bucket would be full again. A call moves it one interval ahead; it may not lie
//! further ahead of now than a burst.

use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// So many a second, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    /// Nanoseconds.
    interval: u64,
    ahead: u64,
}

impl Rate {
    /// None when there is no limit: `per_second` is zero.
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let interval = SECOND.checked_div(u64::from(per_second))?.max(1);
        Some(Self {
            per_second,
            interval,
            ahead: interval * u64::from(burst.max(1) - 1),
        })
    }

    pub fn per_second(self) -> u32 {
        self.per_second
    }

    /// `full_at` is what this gave last (0 at first), `now` nanoseconds of a clock that never goes back. The new number,
    /// or how long it takes until there is room.
    pub fn admit(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        let from = full_at.max(now);
        let ahead = from - now;
        if ahead > self.ahead {
            return Err(Duration::from_nanos(ahead - self.ahead));
        }
        Ok(from + self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same with tokens: a bucket of `burst`, one more each interval.
    struct Bucket {
        interval: u64,
        /// In nanoseconds of filling.
        level: u64,
        most: u64,
        at: u64,
    }

    impl Bucket {
        fn take(&mut self, now: u64) -> bool {
            self.level = (self.level + (now - self.at)).min(self.most);
            self.at = now;
            let has = self.level >= self.interval;
            self.level -= if has { self.interval } else { 0 };
            has
        }
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Rate::new(0, 9), None);
    }

    #[test]
    fn a_burst_passes_and_then_one_call_an_interval() {
        let rate = Rate::new(10, 3).expect("a rate");
        let (now, mut full_at) = (5 * SECOND, 0);
        for _ in 0..3 {
            full_at = rate.admit(full_at, now).expect("within the burst");
        }
        assert_eq!(rate.admit(full_at, now), Err(Duration::from_millis(100)));
        let later = now + SECOND / 10;
        full_at = rate.admit(full_at, later).expect("one interval later");
        assert!(rate.admit(full_at, later).is_err());
    }

    proptest! {
        #[test]
        fn it_is_a_token_bucket(per_second in 1_u32..2000, burst in 0_u32..50, pauses in proptest::collection::vec(0_u64..SECOND / 2, 1..200)) {
            let rate = Rate::new(per_second, burst).expect("a rate");
            let most = rate.interval * u64::from(burst.max(1));
            let mut bucket = Bucket { interval: rate.interval, level: most, most, at: SECOND };
            let (mut full_at, mut now) = (0, SECOND);
            for pause in pauses {
                now += pause / u64::from(per_second);
                let admitted = rate.admit(full_at, now);
                prop_assert_eq!(admitted.is_ok(), bucket.take(now));
                full_at = admitted.unwrap_or(full_at);
            }
        }

        #[test]
        fn whoever_comes_back_after_the_wait_is_admitted(per_second in 1_u32..100_000, burst in 0_u32..50, ahead in 0_u64..100 * SECOND) {
            let rate = Rate::new(per_second, burst).expect("a rate");
            if let Err(wait) = rate.admit(SECOND + ahead, SECOND) {
                let wait = u64::try_from(wait.as_nanos()).expect("short");
                prop_assert!(rate.admit(SECOND + ahead, SECOND + wait).is_ok());
                prop_assert!(rate.admit(SECOND + ahead, SECOND + wait - 1).is_err());
            }
        }
    }
}
