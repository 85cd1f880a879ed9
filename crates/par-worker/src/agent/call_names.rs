//! What people call the calls of an agent: what the caller said as `x-request-id`, else a name that we make.
//!
//! A name that we make follows from the number of the call, so nothing is kept of it. Those that callers gave are kept a
//! while beyond the end of their call: what it printed may be read after it has answered.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};

use super::channel::Channel;

/// Names that are kept; calls under way keep theirs beyond it.
const KEPT: usize = 4096;
/// The longest name that a caller may give.
const LONGEST: usize = 128;

pub(crate) struct CallNames {
    /// Tells the calls of this incarnation from those of others.
    prefix: String,
    given: RefCell<Given>,
    channel: OnceCell<Weak<Channel>>,
}

#[derive(Default)]
struct Given {
    names: HashMap<u32, String>,
    /// In the order in which they were given.
    order: VecDeque<u32>,
}

impl CallNames {
    pub(crate) fn new(prefix: String) -> Self {
        Self {
            prefix,
            given: RefCell::default(),
            channel: OnceCell::new(),
        }
    }

    /// Once there is a channel, calls can be seen to be over.
    pub(crate) fn watch(&self, channel: &Rc<Channel>) {
        // Set once, when the agent starts.
        let _already_set = self.channel.set(Rc::downgrade(channel));
    }

    /// The name of call `id`, which begins.
    pub(crate) fn begin(&self, id: u32, given: Option<&str>) -> String {
        let Some(name) = given.filter(|name| is_name(name)) else {
            // The number may have belonged to a call whose name was given.
            self.given.borrow_mut().names.remove(&id);
            return self.made(id);
        };
        let mut kept = self.given.borrow_mut();
        if kept.names.insert(id, name.to_owned()).is_none() {
            kept.order.push_back(id);
        }
        // Each is looked at once at most: all may be under way.
        for _ in KEPT..kept.order.len() {
            let Some(oldest) = kept.order.pop_front() else {
                break;
            };
            if self.is_over(oldest) {
                kept.names.remove(&oldest);
            } else {
                kept.order.push_back(oldest);
                break;
            }
        }
        name.to_owned()
    }

    /// The name of a call that has begun; none for what no call did.
    pub(crate) fn of(&self, id: u32) -> Option<String> {
        if id == 0 {
            return None;
        }
        let given = self.given.borrow().names.get(&id).cloned();
        Some(given.unwrap_or_else(|| self.made(id)))
    }

    pub(crate) fn is_over(&self, id: u32) -> bool {
        let channel = self.channel.get().and_then(Weak::upgrade);
        channel.is_none_or(|channel| !channel.is_under_way(id))
    }

    fn made(&self, id: u32) -> String {
        format!("{}-{id:x}", self.prefix)
    }
}

/// What can stand in a header and in a line of a log.
pub(crate) fn is_name(word: &str) -> bool {
    (1..=LONGEST).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_called_what_its_caller_said_if_that_is_a_name() {
        let names = CallNames::new("ab".to_owned());
        assert_eq!(names.begin(1, Some("mine")), "mine");
        assert_eq!(names.begin(26, None), "ab-1a");
        for nonsense in ["", "two words", "new\nline", "é", &"x".repeat(129)] {
            assert_eq!(names.begin(3, Some(nonsense)), "ab-3");
        }
        assert_eq!(names.of(1).as_deref(), Some("mine"));
        assert_eq!(names.of(26).as_deref(), Some("ab-1a"));
        assert_eq!(names.of(0), None);
        names.begin(1, None);
        assert_eq!(names.of(1).as_deref(), Some("ab-1"));
    }

    #[test]
    fn names_that_are_kept_are_bounded() {
        let names = CallNames::new("ab".to_owned());
        for id in 1..=3 * KEPT as u32 {
            names.begin(id, Some("given"));
        }
        assert_eq!(names.given.borrow().names.len(), KEPT);
        assert_eq!(names.of(1).as_deref(), Some("ab-1"));
    }
}
