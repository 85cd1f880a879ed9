//! One line on standard error that says what takes so long; gone when it is done, absent when nobody looks.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::text::{cut, harmless};
use super::{Screen, Style};

/// Shorter waits need no explanation.
const PATIENCE: Duration = Duration::from_millis(400);
const REDRAW: Duration = Duration::from_millis(100);
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

#[derive(Clone)]
pub(crate) struct Progress {
    screen: Screen,
    line: Arc<Mutex<Line>>,
}

#[derive(Default)]
struct Line {
    text: String,
    place: Place,
}

/// What stands in the terminal's line.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Free,
    /// Our text.
    Ours,
    /// The beginning of a line that somebody else goes on writing.
    Others,
}

impl Progress {
    pub(super) fn on(screen: Screen) -> Self {
        Self {
            screen,
            line: Arc::default(),
        }
    }

    /// What goes on from now.
    pub(crate) fn say(&self, text: impl Into<String>) {
        self.line().text = text.into();
    }

    /// To be asked before `text` is written to the same terminal: the line gives way to it, and comes back once the
    /// terminal's line is free again.
    pub(crate) fn give_way(&self, text: &str) {
        self.clear();
        let whole = text.ends_with('\n');
        self.line().place = if whole { Place::Free } else { Place::Others };
    }

    /// Whether somebody else's line has begun and not ended.
    pub(crate) fn is_within_a_line(&self) -> bool {
        self.line().place == Place::Others
    }

    /// Shows what goes on while `work` lasts.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let Some(width) = self.screen.width else {
            return work.await;
        };
        let _cleared = Cleared(self);
        let began = Instant::now();
        let mut ticks = interval_at(began + PATIENCE, REDRAW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut drawn = 0;
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => {
                    self.draw(SPINNER[drawn % SPINNER.len()], began.elapsed(), width);
                    drawn += 1;
                }
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, frame: char, elapsed: Duration, width: usize) {
        let mut line = self.line();
        if line.place == Place::Others {
            return;
        }
        line.place = Place::Ours;
        let line = format!(
            "{frame} {} ({}s)",
            harmless(&line.text).replace('\n', " "),
            elapsed.as_secs()
        );
        let line = Style::Faint.paint(&cut(&line, width), self.screen.colours);
        // A progress line that cannot be drawn is no loss.
        drop(write!(io::stderr().lock(), "\r\x1b[K{line}"));
    }

    fn clear(&self) {
        let mut line = self.line();
        if line.place == Place::Ours {
            line.place = Place::Free;
            drop(write!(io::stderr().lock(), "\r\x1b[K"));
        }
    }
}

/// Takes our line away, whichever way the wait ends.
struct Cleared<'a>(&'a Progress);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}
