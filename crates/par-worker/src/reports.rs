//! What the worker tells its supervisor, in order, without ever waiting for it.

use std::cell::Cell;
use std::rc::Rc;

use par_model::control::Report;
use par_model::log::{Level, LogLine, Stream};
use tokio::sync::mpsc;

use crate::agent::logs::now_ms;

/// Log lines that may wait to be told; further ones are dropped and counted.
const WAITING_LINES: usize = 2048;

#[derive(Clone)]
pub(crate) struct Reporter {
    /// Changes of state are few and never dropped.
    states: mpsc::UnboundedSender<Report>,
    lines: mpsc::Sender<LogLine>,
    dropped: Rc<Cell<u64>>,
}

pub(crate) struct Reports {
    states: mpsc::UnboundedReceiver<Report>,
    lines: mpsc::Receiver<LogLine>,
    dropped: Rc<Cell<u64>>,
}

pub(crate) fn channel() -> (Reporter, Reports) {
    let (states, states_out) = mpsc::unbounded_channel();
    let (lines, lines_out) = mpsc::channel(WAITING_LINES);
    let dropped = Rc::new(Cell::new(0));
    let reports = Reports {
        states: states_out,
        lines: lines_out,
        dropped: Rc::clone(&dropped),
    };
    (
        Reporter {
            states,
            lines,
            dropped,
        },
        reports,
    )
}

impl Reporter {
    pub(crate) fn state(&self, report: Report) {
        // The receiver is gone only when nobody is left to be told.
        let _nobody_listens = self.states.send(report);
    }

    pub(crate) fn progress(&self, message: impl Into<String>) {
        self.state(Report::Progress {
            message: message.into(),
        });
    }

    pub(crate) fn log(&self, line: LogLine) {
        if self.lines.try_send(line).is_err() {
            self.dropped.set(self.dropped.get() + 1);
        }
    }

    /// Says something about the agent in its own log.
    pub(crate) fn say(&self, level: Level, message: impl Into<String>) {
        self.log(LogLine {
            at_ms: now_ms(),
            stream: Stream::Worker,
            level,
            message: message.into(),
        });
    }
}

impl Reports {
    /// The next thing to tell; `None` when nobody is left to say anything.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        tokio::select! {
            biased;
            Some(report) = self.states.recv() => Some(report),
            Some(line) = self.lines.recv() => Some(Report::Log { line }),
            else => None,
        }
    }

    /// How many lines were dropped since this was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.take()
    }

    /// What is already there, without waiting.
    pub(crate) fn try_next(&mut self) -> Option<Report> {
        let line = |line| Report::Log { line };
        self.lines
            .try_recv()
            .map(line)
            .or_else(|_| self.states.try_recv())
            .ok()
    }
}
