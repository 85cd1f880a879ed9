//! How the end of a run is told: the reason first, then what became of the session.

use std::time::Duration;

use par_model::RunFailure;
use par_protocol::session::{Ran, Values};

use super::outcome::{Event, Metrics, Outcome};
use super::output::Stream;
use super::run::{End, Finished, Stop};
use super::session::{Kept, listed};

/// In characters, where memory is scarce.
const MOST_OF_AN_ERROR: usize = 1000;

pub(super) fn outcome(finished: &Finished, kept: &Kept) -> Outcome {
    let told = match &finished.end {
        End::Ran(ran) if ran.ok => Outcome {
            success: true,
            results: results(ran),
            opaque: ran.opaque.clone(),
            ..Outcome::default()
        },
        End::Ran(ran) => Outcome {
            traceback: ran.traceback.clone(),
            changed: ran.changed.clone(),
            ..failed(ran, finished.stop)
        },
        End::Gone(how) => lost(how, finished.stop, kept),
    };
    Outcome {
        stdout_truncated: finished.stdout_truncated,
        stderr_truncated: finished.stderr_truncated,
        metrics: metrics(finished),
        ..told
    }
}

/// The session or the worker ended before the run began.
pub(super) fn not_begun() -> Outcome {
    let words = "the session was ended before the run began";
    Outcome::failed(RunFailure::SessionEnded, words.to_owned())
}

/// Its caller's patience ended while other runs had their turn.
pub(super) fn not_in_time() -> Outcome {
    let words = "timed out while it waited for its turn";
    Outcome::failed(RunFailure::TimedOut, words.to_owned())
}

/// What is kept of its results stays in the session, if there is one.
pub(super) fn too_much_at_once(session_stays: bool) -> Outcome {
    let mut words =
        "the run succeeded, but too many large answers wait for their callers".to_owned();
    if session_stays {
        words.push_str(": ask for the session's state");
    }
    Outcome::failed(RunFailure::Memory, words)
}

/// A failure without what may be long.
pub(super) fn failed_among_too_many(outcome: Outcome) -> Outcome {
    let error = outcome.error.chars().take(MOST_OF_AN_ERROR).collect();
    Outcome {
        failure: outcome.failure,
        error,
        metrics: outcome.metrics,
        ..Outcome::default()
    }
}

pub(super) fn no_interpreter(reason: String) -> Outcome {
    let words = format!("no interpreter could be started: {reason}");
    Outcome::failed(RunFailure::Interpreter, words)
}

/// For a run that meets an interpreter which ended after the run before it.
pub(super) fn ended_between(how: &str, kept: &Kept) -> Event {
    let note = format!(
        "par: the interpreter of this session {how} since its last run{}\n",
        kept.consequence()
    );
    Event::Output(Stream::Stderr, note.into())
}

fn results(ran: &Ran) -> Values {
    let all = ran.variables.iter().chain(&ran.extras);
    all.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn failed(ran: &Ran, stop: Option<Stop>) -> Outcome {
    let (failure, mut words) = match stop.filter(|_| ran.kind == "interrupted") {
        Some(stop) => reason(stop),
        None => (kind(&ran.kind), ran.error.clone()),
    };
    if !ran.changed.is_empty() {
        let names: Vec<&str> = ran.changed.iter().map(String::as_str).collect();
        words.push_str(&format!(" (may have changed: {})", listed(&names)));
    }
    Outcome::failed(failure, words)
}

/// In a session's own words, which may be anything.
fn kind(said: &str) -> RunFailure {
    match said {
        "compile" => RunFailure::Compile,
        "input" => RunFailure::Input,
        "memory" => RunFailure::Memory,
        _ => RunFailure::Raised,
    }
}

fn lost(how: &str, stop: Option<Stop>, kept: &Kept) -> Outcome {
    let (failure, words) = match stop {
        None => (RunFailure::Interpreter, format!("the interpreter {how}")),
        Some(stop @ (Stop::Memory(_) | Stop::Disk(_))) => reason(stop),
        Some(stop) => {
            let (failure, words) = reason(stop);
            (failure, format!("{words}, and had to be killed"))
        }
    };
    Outcome::failed(failure, format!("{words}{}", kept.consequence()))
}

fn reason(stop: Stop) -> (RunFailure, String) {
    match stop {
        Stop::TimedOut(after) => {
            // What a caller's patience left of a time is no round number.
            let after = Duration::from_millis((after.as_secs_f64() * 1000.0).round() as u64);
            (RunFailure::TimedOut, format!("timed out after {after:?}"))
        }
        Stop::CallerLeft => (RunFailure::CallerLeft, "its caller left".to_owned()),
        Stop::SessionEnded => (RunFailure::SessionEnded, "its session was ended".to_owned()),
        Stop::Memory(most) => {
            let most = most >> 20;
            let words = format!("it took more than the {most} MiB of memory that it may have");
            (RunFailure::Memory, words)
        }
        Stop::Disk(most) => {
            let most = most >> 20;
            let words = format!(
                "its files took more than the {most} MiB that they may have, and are removed"
            );
            (RunFailure::Disk, words)
        }
    }
}

fn metrics(finished: &Finished) -> Metrics {
    match &finished.end {
        End::Ran(ran) => Metrics {
            time: seconds(ran.wall).min(finished.took),
            memory_bytes: ran.memory,
            processor_time: seconds(ran.cpu),
        },
        End::Gone(_) => Metrics {
            time: finished.took,
            ..Metrics::default()
        },
    }
}

/// What a hostile process says of itself may be no time at all.
fn seconds(said: f64) -> Duration {
    Duration::try_from_secs_f64(said).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn finished(end: End, stop: Option<Stop>) -> Finished {
        Finished {
            end,
            stop,
            took: Duration::from_secs(2),
            stdout_truncated: false,
            stderr_truncated: false,
            left: VecDeque::new(),
        }
    }

    fn failed(kind: &str, error: &str) -> End {
        End::Ran(Box::new(Ran {
            kind: kind.to_owned(),
            error: error.to_owned(),
            changed: vec!["d".to_owned()],
            ..Ran::default()
        }))
    }

    #[test]
    fn every_end_names_its_reason() {
        let killed = || End::Gone("ended by SIGKILL".to_owned());
        let late = Some(Stop::TimedOut(Duration::from_secs(2)));
        let told = |end, stop| outcome(&finished(end, stop), &Kept::default()).error;
        assert_eq!(
            told(failed("raised", "KeyError: 1"), None),
            "KeyError: 1 (may have changed: d)"
        );
        assert_eq!(
            told(failed("interrupted", "x"), late),
            "timed out after 2s (may have changed: d)"
        );
        // It failed by itself in the moment in which it was interrupted.
        assert_eq!(
            told(failed("raised", "KeyError: 1"), late),
            "KeyError: 1 (may have changed: d)"
        );
        assert_eq!(told(killed(), None), "the interpreter ended by SIGKILL");
        assert_eq!(
            told(killed(), late),
            "timed out after 2s, and had to be killed"
        );
        assert_eq!(
            told(killed(), Some(Stop::Memory(64 << 20))),
            "it took more than the 64 MiB of memory that it may have"
        );
    }

    #[test]
    fn every_end_has_a_kind_whatever_the_session_says() {
        let kind = |end, stop| outcome(&finished(end, stop), &Kept::default()).failure;
        let late = Some(Stop::TimedOut(Duration::from_secs(2)));
        assert_eq!(kind(failed("compile", ""), None), Some(RunFailure::Compile));
        assert_eq!(kind(failed("nonsense", ""), None), Some(RunFailure::Raised));
        assert_eq!(
            kind(failed("interrupted", ""), late),
            Some(RunFailure::TimedOut)
        );
        let gone = End::Gone("exited with code 3".to_owned());
        assert_eq!(kind(gone, None), Some(RunFailure::Interpreter));
        let ran = End::Ran(Box::new(Ran {
            ok: true,
            ..Ran::default()
        }));
        assert_eq!(kind(ran, late), None);
    }

    #[test]
    fn nonsense_about_itself_is_no_metric() {
        let ran = Ran {
            wall: f64::NAN,
            cpu: -1.0,
            ..Ran::default()
        };
        let metrics = metrics(&finished(End::Ran(Box::new(ran)), None));
        assert_eq!((metrics.time, metrics.cpu_percent()), (Duration::ZERO, 0));
    }
}
