//! A run that was asked for, checked at the door.

use std::time::Duration;

use bytes::Bytes;
use par_model::{CallError, SessionLimits, Tier};
use par_protocol::session::Values;
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) code: String,
    /// MessagePack by name.
    pub(crate) context: Values,
    pub(crate) files: Vec<Bytes>,
    pub(crate) tier: Tier,
    pub(crate) time: Duration,
    /// When its caller does not wait any more.
    pub(crate) give_up: Option<Instant>,
}

impl Request {
    /// How long it may run when it begins now.
    pub(super) fn time_left(&self) -> Duration {
        let left = self
            .give_up
            .map(|give_up| give_up.saturating_duration_since(Instant::now()));
        left.map_or(self.time, |left| left.min(self.time))
    }
}

/// The time that a run may take. 0 is the usual one.
pub(crate) fn time(seconds: f64, limits: &SessionLimits) -> Result<Duration, CallError> {
    if seconds == 0.0 {
        return Ok(limits.time);
    }
    let longest = limits.longest_time;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero() && *time <= longest)
        .ok_or_else(|| {
            let most = longest.as_secs();
            CallError::BadRequest(format!(
                "timeout_seconds is {seconds}: it has to be above 0 and at most {most}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_between_nothing_and_a_day() {
        let limits = SessionLimits::default();
        let of = |seconds| time(seconds, &limits);
        assert_eq!(of(0.0), Ok(Duration::from_secs(60)));
        assert_eq!(of(0.5), Ok(Duration::from_millis(500)));
        assert_eq!(of(86_400.0), Ok(Duration::from_secs(86_400)));
        for absurd in [
            -1.0,
            86_401.0,
            2_147_483_647.0,
            f64::NAN,
            f64::INFINITY,
            1e-30,
        ] {
            assert!(of(absurd).is_err(), "{absurd}");
        }
    }
}
