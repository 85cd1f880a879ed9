//! One line on standard error that says what takes so long; gone when it is done, absent when nobody looks.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
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
    text: Arc<Mutex<String>>,
}

impl Progress {
    pub(super) fn on(screen: Screen) -> Self {
        Self {
            screen,
            text: Arc::default(),
        }
    }

    /// What goes on from now.
    pub(crate) fn say(&self, text: impl Into<String>) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// Shows what goes on while `work` lasts.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let Some(width) = self.screen.width else {
            return work.await;
        };
        let _line = ClearedLine;
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

    fn draw(&self, frame: char, elapsed: Duration, width: usize) {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!(
            "{frame} {} ({}s)",
            harmless(&text).replace('\n', " "),
            elapsed.as_secs()
        );
        let line = Style::Faint.paint(&cut(&line, width), self.screen.colours);
        // A progress line that cannot be drawn is no loss.
        drop(write!(io::stderr().lock(), "\r\x1b[K{line}"));
    }
}

/// Leaves the terminal's line empty, whichever way the wait ends.
struct ClearedLine;

impl Drop for ClearedLine {
    fn drop(&mut self) {
        drop(write!(io::stderr().lock(), "\r\x1b[K"));
    }
}
