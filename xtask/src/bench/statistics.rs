//! Numbers that stand for many.

use std::time::Duration;

use serde::Serialize;

/// How long something took, several times. Milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) times: usize,
    pub(crate) min_ms: f64,
    pub(crate) median_ms: f64,
    pub(crate) max_ms: f64,
}

impl Spread {
    pub(crate) fn of(durations: &[Duration]) -> Self {
        let milliseconds = durations.iter().map(|time| time.as_secs_f64() * 1e3);
        let sorted = sorted(milliseconds.collect());
        Self {
            times: sorted.len(),
            min_ms: percentile(&sorted, 0.0),
            median_ms: percentile(&sorted, 0.5),
            max_ms: percentile(&sorted, 1.0),
        }
    }
}

pub(crate) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

pub(crate) fn median(values: Vec<f64>) -> f64 {
    percentile(&sorted(values), 0.5)
}

/// The value below which `part` of the sorted values lie, the nearer of two; not a number when there is none.
pub(crate) fn percentile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * part).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        let at = |part| percentile(&values, part);
        assert_eq!(
            [at(0.0), at(0.5), at(0.99), at(1.0)],
            [0.0, 50.0, 99.0, 100.0]
        );
    }

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        assert_eq!(median(vec![9.0, 1.0, 2.0, 1000.0, 3.0]), 3.0);
        assert!(median(vec![]).is_nan());
    }
}
