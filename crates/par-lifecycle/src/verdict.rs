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

impl Verdict {
    /// `restarts`: those without a stable time of serving between them.
    pub(crate) fn of(policy: &RestartPolicy, restarts: u32, cause: &EndCause) -> Self {
        let finished = matches!(cause, EndCause::Exit { code: 0 });
        match policy.mode {
            RestartMode::Never | RestartMode::OnFailure if finished => Self::Stopped,
            RestartMode::Never => Self::Crashed,
            RestartMode::OnFailure | RestartMode::Always if restarts >= policy.max_restarts => {
                Self::Crashed
            }
            RestartMode::OnFailure | RestartMode::Always => Self::RestartIn(policy.wait(restarts)),
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

    #[test]
    fn a_clean_exit_is_a_stop_unless_the_agent_shall_always_run() {
        for mode in [RestartMode::Never, RestartMode::OnFailure] {
            assert_eq!(Verdict::of(&policy(mode), 0, &CLEAN), Verdict::Stopped);
        }
        assert_eq!(
            Verdict::of(&policy(RestartMode::Always), 0, &CLEAN),
            Verdict::RestartIn(Duration::ZERO)
        );
    }

    #[test]
    fn an_end_that_nobody_asked_for_is_a_crash_even_if_the_worker_was_polite() {
        assert_eq!(
            Verdict::of(&policy(RestartMode::Never), 0, &EndCause::Asked),
            Verdict::Crashed
        );
        assert_eq!(
            Verdict::of(&policy(RestartMode::OnFailure), 0, &EndCause::Asked),
            Verdict::RestartIn(Duration::ZERO)
        );
    }

    #[test]
    fn one_restart_more_than_allowed_and_the_agent_stays_down() {
        for mode in [RestartMode::OnFailure, RestartMode::Always] {
            let policy = policy(mode);
            assert_eq!(
                Verdict::of(&policy, 2, &BROKEN),
                Verdict::RestartIn(policy.wait(2))
            );
            assert_eq!(Verdict::of(&policy, 3, &BROKEN), Verdict::Crashed);
        }
    }
}
