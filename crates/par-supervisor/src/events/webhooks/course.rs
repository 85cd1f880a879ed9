//! What to do after an attempt: a plain function of what was answered, and how often it was tried.

use std::fmt;
use std::time::Duration;

/// How long, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Course {
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    pub(super) attempts: u32,
}

impl Default for Course {
    /// About six minutes.
    fn default() -> Self {
        Self {
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(120),
            attempts: 10,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Status(u16),
    /// There was none, and why.
    None(String),
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::None(why) => f.write_str(why),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Done,
    Again(Duration),
    GiveUp,
}

/// The receiver is not there any more, and says so.
const GONE: u16 = 410;

impl Course {
    /// `attempt` counts from one; `spread`, from 0 to 1, keeps those that failed together from trying again together.
    pub(super) fn next(&self, attempt: u32, reply: &Reply, spread: f64) -> Next {
        match reply {
            Reply::Status(200..300) => Next::Done,
            Reply::Status(GONE) => Next::GiveUp,
            _ if attempt >= self.attempts => Next::GiveUp,
            _ => Next::Again(
                self.pause(attempt)
                    .mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0),
            ),
        }
    }

    fn pause(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.first_pause
            .saturating_mul(1 << doublings)
            .min(self.longest_pause)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_taken_is_done_and_what_is_gone_is_given_up() {
        let course = Course::default();
        for status in [200, 202, 204, 299] {
            assert_eq!(course.next(1, &Reply::Status(status), 0.0), Next::Done);
        }
        assert_eq!(course.next(1, &Reply::Status(410), 0.0), Next::GiveUp);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let course = Course::default();
        let pause = |attempt| course.next(attempt, &Reply::Status(500), 1.0);
        let seconds = [1, 2, 4, 8, 16, 32, 64, 120, 120];
        for (attempt, seconds) in (1..).zip(seconds) {
            assert_eq!(pause(attempt), Next::Again(Duration::from_secs(seconds)));
        }
        assert_eq!(pause(10), Next::GiveUp);
    }

    fn failure() -> impl Strategy<Value = Reply> {
        prop_oneof![
            (100..600_u16)
                .prop_filter("a failure", |status| !(200..300).contains(status))
                .prop_map(Reply::Status),
            ".{0,9}".prop_map(Reply::None),
        ]
    }

    proptest! {
        #[test]
        fn it_comes_to_an_end_within_the_time_it_promises(
            replies in proptest::collection::vec((failure(), 0.0..1.0_f64), 10..20),
        ) {
            let course = Course::default();
            let mut waited = Duration::ZERO;
            for (attempt, (reply, spread)) in (1..).zip(replies) {
                prop_assert!(attempt <= course.attempts);
                match course.next(attempt, &reply, spread) {
                    Next::Done => prop_assert!(false, "{reply:?} is no success"),
                    Next::Again(pause) => waited += pause,
                    Next::GiveUp => break,
                }
            }
            prop_assert!(waited <= Duration::from_secs(367));
        }
    }
}
