//! How long a gRPC call may take in all, of which each hop passes on what is left (`grpc-timeout`).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use par_model::{CallError, grpc};
use tokio::time::{Instant, Sleep, sleep_until};

const TIMEOUT: HeaderName = HeaderName::from_static(grpc::TIMEOUT);

/// How much later than its deadline a call is ended by us: what the worker says about it is better.
const SLACK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    asked: Duration,
    at: Instant,
}

impl Deadline {
    /// As the caller asks from now on, if it does.
    pub(crate) fn asked(headers: &HeaderMap) -> Result<Option<Self>, CallError> {
        let mut lines = headers.get_all(TIMEOUT).iter();
        let Some(line) = lines.next() else {
            return Ok(None);
        };
        let only = Some(line).filter(|_| lines.next().is_none());
        let asked = only.and_then(|line| grpc::parse_timeout(line.to_str().ok()?));
        let asked = asked.ok_or_else(|| {
            CallError::BadRequest(format!("`{}` is not one timeout", grpc::TIMEOUT))
        })?;
        let at = Instant::now().checked_add(asked);
        Ok(at.map(|at| Self { asked, at }))
    }

    /// Says how much time is left; an error when there is none.
    pub(crate) fn pass_on(&self, headers: &mut HeaderMap) -> Result<(), CallError> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.exceeded());
        }
        let left = HeaderValue::try_from(grpc::format_timeout(left))
            .expect("a timeout is made of header value characters");
        headers.insert(TIMEOUT, left);
        Ok(())
    }

    pub(crate) fn timer(self) -> Timer {
        Timer {
            deadline: self,
            sleep: Box::pin(sleep_until(self.at + SLACK)),
        }
    }

    fn exceeded(&self) -> CallError {
        CallError::DeadlineExceeded(self.asked)
    }
}

/// Ends what has no answer at its deadline.
pub(crate) struct Timer {
    deadline: Deadline,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    pub(crate) fn poll_exceeded(&mut self, cx: &mut Context<'_>) -> Poll<CallError> {
        let exceeded = self.deadline.exceeded();
        self.sleep.as_mut().poll(cx).map(|()| exceeded)
    }
}
