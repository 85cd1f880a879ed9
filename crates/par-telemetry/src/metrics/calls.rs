//! Calls through one surface: how they went, and how long they took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::histogram::Histogram;

/// How outcomes are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    Http,
    Grpc,
}

/// Classes of statuses, and those whose caller left before there was one.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "left"];
const LEFT: usize = 5;

/// By number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const CANCELLED: usize = 1;
const UNKNOWN: usize = 2;

#[derive(Debug)]
pub struct Calls {
    surface: Surface,
    outcomes: [AtomicU64; CODES.len()],
    duration: Histogram,
}

impl Calls {
    pub fn through(surface: Surface) -> Arc<Self> {
        Arc::new(Self {
            surface,
            outcomes: Default::default(),
            duration: Histogram::default(),
        })
    }

    /// How many went how; those that never happened are left out.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = match self.surface {
            Surface::Http => &CLASSES[..],
            Surface::Grpc => &CODES[..],
        };
        let counts = names.iter().zip(&self.outcomes);
        counts
            .map(|(name, count)| (*name, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }

    pub fn duration(&self) -> &Histogram {
        &self.duration
    }
}

/// One call, counted when this is dropped.
#[derive(Debug)]
pub struct Tally {
    calls: Arc<Calls>,
    began: Instant,
    outcome: Option<usize>,
}

impl Tally {
    pub fn begin(calls: &Arc<Calls>) -> Self {
        Self {
            calls: Arc::clone(calls),
            began: Instant::now(),
            outcome: None,
        }
    }

    /// The status of the answer, or the code of the call. One that is none counts as a failure.
    pub fn ends_with(&mut self, number: u16) {
        let number = usize::from(number);
        self.outcome = Some(match self.calls.surface {
            Surface::Http => (number / 100).wrapping_sub(1).min(LEFT - 1),
            Surface::Grpc if number < CODES.len() => number,
            Surface::Grpc => UNKNOWN,
        });
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or(match self.calls.surface {
            Surface::Http => LEFT,
            Surface::Grpc => CANCELLED,
        });
        self.calls.outcomes[outcome].fetch_add(1, Ordering::Relaxed);
        self.calls.duration.observe(self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(surface: Surface, numbers: &[Option<u16>]) -> Vec<(&'static str, u64)> {
        let calls = Calls::through(surface);
        for number in numbers {
            let mut tally = Tally::begin(&calls);
            if let Some(number) = number {
                tally.ends_with(*number);
            }
        }
        assert_eq!(calls.duration().look().count, numbers.len() as u64);
        calls.outcomes().collect()
    }

    #[test]
    fn statuses_count_by_class_and_codes_by_name() {
        let statuses = [
            Some(200),
            Some(204),
            Some(101),
            Some(503),
            Some(999),
            Some(0),
            None,
        ];
        assert_eq!(
            outcomes(Surface::Http, &statuses),
            [("1xx", 1), ("2xx", 2), ("5xx", 3), ("left", 1)]
        );
        let codes = [Some(0), Some(14), Some(16), Some(17), None];
        assert_eq!(
            outcomes(Surface::Grpc, &codes),
            [
                ("OK", 1),
                ("CANCELLED", 1),
                ("UNKNOWN", 1),
                ("UNAVAILABLE", 1),
                ("UNAUTHENTICATED", 1)
            ]
        );
    }
}
