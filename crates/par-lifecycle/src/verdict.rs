//! What becomes of an agent that has served and then ended by itself.

use std::time::Duration;

use par_model::control::EndCause;
use par_model::{RestartMode, RestartPolicy};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    RestartIn(Duration),
    /// It finished what it had to do.
    Stopped,
    /// It stays down.
    Crashed,
}

/// Restarts so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Past {
    /// Those without a stable time of serving between them.
    pub(crate) unstable: u32,
    /// Those within the policy's period.
    pub(crate) recent: u32,
}

impl Past {
    fn is_too_much(self, policy: &RestartPolicy) -> bool {
        self.unstable >= policy.max_restarts || self.recent >= policy.most_in_period
    }
}

impl Verdict {
    pub(crate) fn of(policy: &RestartPolicy, past: Past, cause: &EndCause) -> Self {
        let finished = matches!(cause, EndCause::Exit { code: 0 });
        match policy.mode {
            RestartMode::Never | RestartMode::OnFailure if finished => Self::Stopped,
            RestartMode::Never => Self::Crashed,
            RestartMode::OnFailure | RestartMode::Always if past.is_too_much(policy) => {
                Self::Crashed
            }
            RestartMode::OnFailure | RestartMode::Always => {
                Self::RestartIn(policy.wait(past.unstable))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: RestartMode) -> RestartPolicy {
        RestartPolicy {
            mode,
            ..RestartPolicy::default()
        }
    }

    const CLEAN: EndCause = EndCause::Exit { code: 0 };
    const BROKEN: EndCause = EndCause::Exit { code: 3 };
    const NONE: Past = Past {
        unstable: 0,
        recent: 0,
    };

    #[test]
    fn a_clean_exit_is_a_stop_unless_the_agent_shall_always_run() {
        for mode in [RestartMode::Never, RestartMode::OnFailure] {
            assert_eq!(Verdict::of(&policy(mode), NONE, &CLEAN), Verdict::Stopped);
        }
        assert_eq!(
            Verdict::of(&policy(RestartMode::Always), NONE, &CLEAN),
            Verdict::RestartIn(Duration::ZERO)
        );
    }

    #[test]
    fn an_end_that_nobody_asked_for_is_a_crash_even_if_the_worker_was_polite() {
        assert_eq!(
            Verdict::of(&policy(RestartMode::Never), NONE, &EndCause::Asked),
            Verdict::Crashed
        );
        assert_eq!(
            Verdict::of(&policy(RestartMode::OnFailure), NONE, &EndCause::Asked),
            Verdict::RestartIn(Duration::ZERO)
        );
    }

    #[test]
    fn one_restart_more_than_allowed_and_the_agent_stays_down() {
        for mode in [RestartMode::OnFailure, RestartMode::Always] {
            let policy = policy(mode);
            let unstable = |unstable| Past {
                unstable,
                recent: unstable,
            };
            assert_eq!(
                Verdict::of(&policy, unstable(2), &BROKEN),
                Verdict::RestartIn(policy.wait(2))
            );
            assert_eq!(Verdict::of(&policy, unstable(3), &BROKEN), Verdict::Crashed);
        }
    }

    #[test]
    fn too_many_restarts_in_a_period_are_too_many_however_stable_it_is_between_them() {
        let policy = policy(RestartMode::Always);
        for (recent, verdict) in [
            (9, Verdict::RestartIn(Duration::ZERO)),
            (10, Verdict::Crashed),
        ] {
            let past = Past {
                unstable: 0,
                recent,
            };
            assert_eq!(Verdict::of(&policy, past, &BROKEN), verdict);
        }
    }
}
