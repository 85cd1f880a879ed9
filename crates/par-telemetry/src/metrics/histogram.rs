//! How long things took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in seconds: those that OpenTelemetry advises for durations of calls, and finer ones below, because ours
/// take less than a millisecond.
const BOUNDS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];

/// The same in nanoseconds, and whatever takes longer.
const NANOS: [u64; BOUNDS.len()] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

#[derive(Debug, Default)]
pub struct Histogram {
    /// What each bound is the first for; the last are beyond all.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// In nanoseconds: enough for 500 years of calls.
    sum: AtomicU64,
}

/// A histogram at one moment.
pub(super) struct Seen {
    /// How many took at most so many seconds.
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) count: u64,
    pub(super) seconds: f64,
}

impl Histogram {
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let at = NANOS.partition_point(|bound| *bound < nanos);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn look(&self) -> Seen {
        let mut count = 0;
        let mut up_to = |counts: &AtomicU64| {
            count += counts.load(Ordering::Relaxed);
            count
        };
        let bounds = BOUNDS.iter().zip(&self.counts);
        let buckets = bounds
            .map(|(bound, counts)| (*bound, up_to(counts)))
            .collect();
        up_to(&self.counts[BOUNDS.len()]);
        Seen {
            buckets,
            count,
            seconds: self.sum.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_of_bounds_are_the_same() {
        for (seconds, nanos) in BOUNDS.iter().zip(NANOS) {
            assert_eq!(
                Duration::from_secs_f64(*seconds),
                Duration::from_nanos(nanos)
            );
        }
    }

    #[test]
    fn what_takes_exactly_as_long_as_a_bound_is_within_it() {
        let histogram = Histogram::default();
        for millis in [0, 1, 2, 10_000, 10_001] {
            histogram.observe(Duration::from_millis(millis));
        }
        let seen = histogram.look();
        let within = |bound: f64| {
            let bucket = seen.buckets.iter().find(|bucket| bucket.0 == bound);
            bucket.expect("a bound").1
        };
        assert_eq!(
            [
                within(0.0005),
                within(0.001),
                within(0.0025),
                within(10.0),
                seen.count
            ],
            [1, 2, 3, 4, 5]
        );
        assert!((seen.seconds - 20.004).abs() < 1e-9);
    }
}
