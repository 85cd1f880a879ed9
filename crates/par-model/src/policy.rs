//! What to do when an agent ends by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When an ended agent is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartMode {
    /// After a crash, not after an exit with code 0.
    #[default]
    OnFailure,
    /// After every end that nobody asked for.
    Always,
    Never,
}

/// How often and how soon an agent is started again.
///
/// The first restart after a stable time of serving is immediate. The one after that waits `delay`, and each
/// further one `multiplier` times as long, up to `max_delay`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RestartPolicy {
    pub mode: RestartMode,
    /// Restarts without a stable time of serving between them; one more and the agent stays down.
    pub max_restarts: u32,
    pub delay: Duration,
    pub multiplier: f64,
    pub max_delay: Duration,
    /// Restarts within `period`, however stable the times between them: one more and the agent stays down.
    pub most_in_period: u32,
    pub period: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            mode: RestartMode::OnFailure,
            max_restarts: 3,
            delay: Duration::from_secs(5),
            multiplier: 2.0,
            max_delay: Duration::from_secs(300),
            most_in_period: 10,
            period: Duration::from_secs(3600),
        }
    }
}

impl RestartPolicy {
    /// The wait before restart number `attempt`, counted from zero.
    pub fn wait(&self, attempt: u32) -> Duration {
        let Some(doublings) = attempt.checked_sub(1) else {
            return Duration::ZERO;
        };
        let exponent = i32::try_from(doublings).unwrap_or(i32::MAX);
        let seconds = self.delay.as_secs_f64() * self.multiplier.max(1.0).powi(exponent);
        Duration::try_from_secs_f64(seconds).map_or(self.max_delay, |wait| wait.min(self.max_delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_restart_is_immediate_and_the_wait_doubles_from_the_second() {
        let policy = RestartPolicy::default();
        let waits: Vec<u64> = (0..4)
            .map(|attempt| policy.wait(attempt).as_secs())
            .collect();
        assert_eq!(waits, [0, 5, 10, 20]);
    }

    proptest! {
        #[test]
        fn the_wait_never_leaves_its_window(
            attempt: u32, delay in 0_u64..100_000, multiplier in proptest::num::f64::ANY, max in 0_u64..100_000,
        ) {
            let max_delay = Duration::from_millis(max);
            let policy = RestartPolicy { delay: Duration::from_millis(delay), multiplier, max_delay, ..RestartPolicy::default() };
            prop_assert!(policy.wait(attempt) <= max_delay);
        }
    }
}
