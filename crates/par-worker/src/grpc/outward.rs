//! Calls of our agent to other agents over gRPC. They enter at the supervisor's first room, like every call.

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use par_model::CallError;
use par_model::headers::{HOPS, MAX_HOPS, PARENT};

use super::link::{Link, LinkError, Place};
use super::own::strip_ours;
use super::reply::{Passed, Reply};
use crate::agent::outbound::Supervisor;
use crate::http::Front;

pub(crate) struct Outward {
    /// None for an agent that runs alone.
    supervisor: Option<Link>,
}

impl Outward {
    pub(crate) fn to(supervisor: Option<Supervisor>) -> Self {
        let place = supervisor.map(|supervisor| match supervisor {
            Supervisor::Socket(path) => Place::Socket(path),
            Supervisor::Address(address) => Place::Address(address),
        });
        Self {
            supervisor: place.map(Link::to),
        }
    }

    /// Passes on a call that came through the agent's own door.
    pub(super) async fn forward(
        &self,
        front: &Front,
        mut request: Request<Incoming>,
    ) -> Result<Response<Reply>, CallError> {
        let nobody =
            || CallError::BadRequest("no supervisor is here: this agent runs alone".to_owned());
        let supervisor = self.supervisor.as_ref().ok_or_else(nobody)?;
        let hops = hops(front, request.headers());
        if hops > MAX_HOPS {
            return Err(CallError::TooManyHops(MAX_HOPS));
        }
        strip_ours(request.headers_mut());
        request.headers_mut().insert(HOPS, HeaderValue::from(hops));
        match supervisor.send(request).await {
            Ok(response) => Ok(response.map(|body| Reply::Passed(Passed::new(body, None)))),
            Err(error @ (LinkError::Connect(_) | LinkError::Broken(_))) => {
                Err(CallError::Unreachable(crate::chain(&error)))
            }
        }
    }
}

/// How many agents will have called each other. The agent says on whose behalf it calls; one that lies about that
/// begins a chain of its own.
fn hops(front: &Front, headers: &HeaderMap) -> u32 {
    let parent = headers
        .get(PARENT)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let serving = front.serving().ok();
    let before = parent
        .zip(serving)
        .map(|(parent, serving)| serving.channel.hops(parent));
    before.unwrap_or_default() + 1
}
