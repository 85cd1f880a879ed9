//! What the worker tells its supervisor, in order, without ever waiting for it.

use std::cell::Cell;
use std::rc::Rc;

use par_model::control::{EndCause, Report};
use par_model::log::{Level, LogLine, Stream};
use tokio::sync::mpsc;

use crate::agent::logs::now_ms;

/// Notes that may wait to be told, and the bytes that they may have; further ones are dropped and counted.
const WAITING_NOTES: usize = 16_384;
const WAITING_BYTES: usize = 4 << 20;
/// The longest text of one report, in bytes: a line of the control socket holds it however it is escaped.
const LONGEST_TEXT: usize = 96 << 10;

#[derive(Clone)]
pub(crate) struct Reporter {
    /// Changes of state are few and never dropped.
    states: mpsc::UnboundedSender<Report>,
    /// Log lines, and what people like to know.
    notes: mpsc::Sender<Report>,
    counts: Rc<Counts>,
}

pub(crate) struct Reports {
    states: mpsc::UnboundedReceiver<Report>,
    notes: mpsc::Receiver<Report>,
    counts: Rc<Counts>,
}

#[derive(Default)]
struct Counts {
    waiting_bytes: Cell<usize>,
    dropped_lines: Cell<u64>,
}

pub(crate) fn channel() -> (Reporter, Reports) {
    let (states_in, states) = mpsc::unbounded_channel();
    let (notes_in, notes) = mpsc::channel(WAITING_NOTES);
    let counts = Rc::new(Counts::default());
    let reporter = Reporter {
        states: states_in,
        notes: notes_in,
        counts: Rc::clone(&counts),
    };
    (
        reporter,
        Reports {
            states,
            notes,
            counts,
        },
    )
}

impl Reporter {
    pub(crate) fn state(&self, report: Report) {
        // The receiver is gone only when nobody is left to be told.
        let _nobody_listens = self.states.send(cut(report));
    }

    pub(crate) fn progress(&self, message: impl Into<String>) {
        // Only the latest is of interest: one that finds no room is not missed.
        let _left_out = self.note(Report::Progress {
            message: message.into(),
        });
    }

    pub(crate) fn log(&self, line: LogLine) {
        if self.note(Report::Log { line }).is_err() {
            self.counts
                .dropped_lines
                .set(self.counts.dropped_lines.get() + 1);
        }
    }

    /// Says something about the agent in its own log.
    pub(crate) fn say(&self, level: Level, message: impl Into<String>) {
        self.log(LogLine {
            at_ms: now_ms(),
            stream: Stream::Worker,
            level,
            replica: None,
            call: None,
            message: message.into(),
        });
    }

    fn note(&self, note: Report) -> Result<(), NoRoom> {
        let note = cut(note);
        let waiting = self.counts.waiting_bytes.get() + size(&note);
        if waiting > WAITING_BYTES {
            return Err(NoRoom);
        }
        self.notes.try_send(note).map_err(|_| NoRoom)?;
        self.counts.waiting_bytes.set(waiting);
        Ok(())
    }
}

struct NoRoom;

impl Reports {
    /// The next thing to tell; `None` when nobody is left to say anything.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        tokio::select! {
            biased;
            Some(state) = self.states.recv() => Some(state),
            Some(note) = self.notes.recv() => Some(self.taken(note)),
            else => None,
        }
    }

    /// What is already there, without waiting.
    pub(crate) fn try_next(&mut self) -> Option<Report> {
        if let Ok(state) = self.states.try_recv() {
            return Some(state);
        }
        let note = self.notes.try_recv().ok()?;
        Some(self.taken(note))
    }

    /// How many lines were dropped since this was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.counts.dropped_lines.take()
    }

    fn taken(&self, note: Report) -> Report {
        let waiting = self.counts.waiting_bytes.get();
        self.counts
            .waiting_bytes
            .set(waiting.saturating_sub(size(&note)));
        note
    }
}

fn size(note: &Report) -> usize {
    match note {
        Report::Log { line } => line.message.len(),
        Report::Progress { message } => message.len(),
        _ => 0,
    }
}

/// A report whose texts fit.
fn cut(mut report: Report) -> Report {
    match &mut report {
        Report::Log { line } => shorten(&mut line.message),
        Report::Progress { message } => shorten(message),
        Report::Ending {
            cause: EndCause::LoadFailed { reason, traceback },
        } => {
            shorten(reason);
            if let Some(traceback) = traceback {
                shorten(traceback);
            }
        }
        Report::Ending {
            cause: EndCause::DependenciesFailed { reason } | EndCause::Worker { reason },
        } => shorten(reason),
        _ => {}
    }
    report
}

fn shorten(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT)
            .rev()
            .find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or_default());
        text.push_str(" … (cut)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_that_nobody_takes_are_bounded_and_counted() {
        let (reporter, mut reports) = channel();
        for _ in 0..200 {
            reporter.say(Level::Info, "x".repeat(64 << 10));
        }
        let dropped = reports.take_dropped();
        let mut kept = 0;
        while reports.try_next().is_some() {
            kept += 1;
        }
        assert_eq!((kept, dropped), (64, 136));
        reporter.say(Level::Info, "room again");
        assert!(reports.try_next().is_some());
    }

    #[test]
    fn a_reason_of_any_length_fits_into_a_line() {
        let (reporter, mut reports) = channel();
        let endless = "\u{1}é".repeat(10 << 20);
        let cause = EndCause::LoadFailed {
            reason: endless.clone(),
            traceback: Some(endless),
        };
        reporter.state(Report::Ending { cause });
        let told = reports.try_next().expect("told");
        let line = serde_json::to_vec(&told).expect("plain JSON");
        assert!(line.len() < par_model::control::MAX_LINE, "{}", line.len());
    }
}
