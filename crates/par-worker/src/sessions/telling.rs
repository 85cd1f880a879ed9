//! How the end of a run is told: the reason first, then what became of the session.

use std::time::Duration;

use par_model::control::EndCause;
use par_protocol::session::{Ran, Values};

use super::outcome::{Event, Metrics, Outcome};
use super::output::Stream;
use super::run::{End, Finished, Stop};
use super::session::{Kept, listed};

pub(super) fn outcome(finished: &Finished, kept: &Kept) -> Outcome {
    let told = match &finished.end {
        End::Ran(ran) if ran.ok => Outcome {
            success: true,
            results: results(ran),
            ..Outcome::default()
        },
        End::Ran(ran) => Outcome {
            error: failure(ran, finished.stop),
            traceback: ran.traceback.clone(),
            ..Outcome::default()
        },
        End::Gone(cause) => Outcome {
            error: format!("{}{}", loss(cause, finished.stop), kept.consequence()),
            ..Outcome::default()
        },
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
    Outcome {
        error: "the session was ended before the run began".to_owned(),
        ..Outcome::default()
    }
}

pub(super) fn no_interpreter(reason: String) -> Outcome {
    Outcome {
        error: format!("no interpreter could be started: {reason}"),
        ..Outcome::default()
    }
}

/// For a run that meets an interpreter which ended after the run before it.
pub(super) fn ended_between(cause: &EndCause, kept: &Kept) -> Event {
    let note = format!(
        "par: the interpreter of this session {cause} since its last run{}\n",
        kept.consequence()
    );
    Event::Output(Stream::Stderr, note.into())
}

fn results(ran: &Ran) -> Values {
    let all = ran.variables.iter().chain(&ran.extras);
    all.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn failure(ran: &Ran, stop: Option<Stop>) -> String {
    let mut words = match stop.filter(|_| ran.kind == "interrupted") {
        Some(stop) => reason(stop),
        None => ran.error.clone(),
    };
    if !ran.changed.is_empty() {
        let names: Vec<&str> = ran.changed.iter().map(String::as_str).collect();
        words.push_str(&format!(" (may have changed: {})", listed(&names)));
    }
    words
}

fn loss(cause: &EndCause, stop: Option<Stop>) -> String {
    match stop {
        None => format!("the interpreter {cause}"),
        Some(stop @ Stop::Memory(_)) => reason(stop),
        Some(stop) => format!("{}, and had to be killed", reason(stop)),
    }
}

fn reason(stop: Stop) -> String {
    match stop {
        Stop::TimedOut(after) => format!("timed out after {after:?}"),
        Stop::CallerLeft => "its caller left".to_owned(),
        Stop::SessionEnded => "its session was ended".to_owned(),
        Stop::Memory(most) => format!(
            "it took more than the {} MiB of memory that it may have",
            most >> 20
        ),
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
        let killed = || {
            End::Gone(EndCause::Signal {
                signal: 9,
                name: "SIGKILL".to_owned(),
            })
        };
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
