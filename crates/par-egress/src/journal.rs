//! Says what was refused in the agent's log, so often that it is found and so seldom that it floods nothing: each thing once
//! a minute, and not more than some lines a minute in all.

use std::collections::HashSet;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
const MOST_IN_WINDOW: usize = 30;

#[derive(Default)]
pub(crate) struct Journal {
    began: Option<Instant>,
    /// In this window.
    said: HashSet<String>,
    unsaid: u64,
}

impl Journal {
    /// The line to be written, if this is the time for it; it tells how many were not.
    pub(crate) fn note(&mut self, now: Instant, what: &str) -> Option<String> {
        let is_over = |began: Instant| now.saturating_duration_since(began) >= WINDOW;
        if self.began.is_none_or(is_over) {
            self.began = Some(now);
            self.said.clear();
        }
        let is_known = self.said.contains(what);
        if is_known || self.said.len() >= MOST_IN_WINDOW {
            self.unsaid += 1;
            return None;
        }
        self.said.insert(what.to_owned());
        Some(match std::mem::take(&mut self.unsaid) {
            0 => what.to_owned(),
            unsaid => format!("{what} (and {unsaid} refusals that were not written down)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_said_once_a_minute_and_the_rest_is_counted() {
        let (mut journal, begin) = (Journal::default(), Instant::now());
        assert_eq!(journal.note(begin, "a").as_deref(), Some("a"));
        assert_eq!(journal.note(begin, "a"), None);
        assert_eq!(journal.note(begin, "a"), None);
        let other = journal.note(begin, "b").expect("said");
        assert!(other.contains("and 2 refusals"), "{other}");
        assert_eq!(journal.note(begin + WINDOW, "a").as_deref(), Some("a"));
    }

    #[test]
    fn whatever_comes_little_is_said_and_little_is_kept() {
        let (mut journal, begin) = (Journal::default(), Instant::now());
        let said = (0..10_000).filter_map(|n| journal.note(begin, &n.to_string()));
        assert_eq!(said.count(), MOST_IN_WINDOW);
        assert_eq!(journal.said.len(), MOST_IN_WINDOW);
    }
}
