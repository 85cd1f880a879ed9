//! What a run tells those who asked for it.

use std::time::Duration;

use bytes::Bytes;
use par_model::RunFailure;
use par_protocol::session::Values;
use tokio::sync::mpsc;

use super::output::Stream;
use crate::admission::Memory;

#[derive(Debug)]
pub(crate) enum Event {
    Output(Stream, Bytes),
    /// JSON, as the code said it.
    Progress(Bytes),
    /// Always the last.
    Ended(Box<Outcome>),
}

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) success: bool,
    /// Why not; always there when it did not succeed.
    pub(crate) failure: Option<RunFailure>,
    /// Variables, `_`, figures: MessagePack by name.
    pub(crate) results: Values,
    /// One line; empty when it succeeded.
    pub(crate) error: String,
    /// Of the code; empty when it did not raise.
    pub(crate) traceback: String,
    /// Results that are given as their `repr`, or come back as something else.
    pub(crate) opaque: Vec<String>,
    /// Variables that a failed run may have changed all the same.
    pub(crate) changed: Vec<String>,
    pub(crate) stdout_truncated: bool,
    pub(crate) stderr_truncated: bool,
    pub(crate) metrics: Metrics,
    /// What it takes while it waits for its caller.
    pub(crate) memory: Option<Memory>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) time: Duration,
    pub(crate) memory_bytes: u64,
    pub(crate) processor_time: Duration,
}

impl Metrics {
    /// Of one processor; more than 100 when several were at work.
    pub(crate) fn cpu_percent(&self) -> u32 {
        if self.time.is_zero() {
            return 0;
        }
        (100.0 * self.processor_time.as_secs_f64() / self.time.as_secs_f64()).round() as u32
    }
}

impl Outcome {
    pub(crate) fn failed(failure: RunFailure, error: String) -> Self {
        Self {
            failure: Some(failure),
            error,
            ..Self::default()
        }
    }

    /// What it takes, about.
    pub(super) fn bytes(&self) -> u64 {
        let results = self.results.iter();
        let results: usize = results.map(|(name, value)| name.len() + value.len()).sum();
        let names = self.opaque.iter().chain(&self.changed).map(String::len);
        (results + names.sum::<usize>() + self.error.len() + self.traceback.len()) as u64
    }

    /// The reason, and where the code raised, if it did.
    pub(crate) fn error_with_traceback(&self) -> String {
        match self.traceback.is_empty() {
            true => self.error.clone(),
            false => format!("{}\n\n{}", self.error, self.traceback),
        }
    }
}

impl Event {
    /// What it takes, for whoever keeps what is made of it.
    pub(crate) fn take_memory(&mut self) -> Option<Memory> {
        match self {
            Self::Ended(outcome) => outcome.memory.take(),
            Self::Output(..) | Self::Progress(_) => None,
        }
    }
}

/// A run whose caller waits for all of it.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) outcome: Outcome,
}

impl Answered {
    pub(crate) async fn of(mut events: mpsc::Receiver<Event>) -> Self {
        let unanswered = "the run ended without an answer".to_owned();
        let mut answered = Self {
            outcome: Outcome::failed(RunFailure::Interpreter, unanswered),
            ..Self::default()
        };
        while let Some(event) = events.recv().await {
            match event {
                Event::Output(Stream::Stdout, piece) => answered.stdout.extend_from_slice(&piece),
                Event::Output(Stream::Stderr, piece) => answered.stderr.extend_from_slice(&piece),
                Event::Progress(_) => {}
                Event::Ended(outcome) => {
                    answered.outcome = *outcome;
                    return answered;
                }
            }
        }
        answered
    }
}

/// One MessagePack map of values that are MessagePack already.
pub(crate) fn map_of(values: &Values) -> Bytes {
    let size: usize = values
        .iter()
        .map(|(name, value)| name.len() + value.len() + 5)
        .sum();
    let mut map = Vec::with_capacity(size + 5);
    let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
    let written = rmp::encode::write_map_len(&mut map, count);
    written.expect("memory takes all that is written");
    for (name, value) in values {
        rmp::encode::write_str(&mut map, name).expect("memory takes all that is written");
        map.extend_from_slice(value);
    }
    map.into()
}
