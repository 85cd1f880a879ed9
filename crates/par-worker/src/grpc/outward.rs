//! Calls of our agent to other agents over gRPC. They enter at the supervisor's first room, like every call.

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use par_model::CallError;
use par_model::headers::{HOPS, MAX_HOPS, PARENT};
use tokio::sync::{Semaphore, watch};

use super::link::{Link, LinkError, Place};
use super::own::strip_ours;
use super::reply::{Passed, Reply};
use crate::agent::outbound::Supervisor;
use crate::http::Front;

/// Calls at one time: fewer than the supervisor takes on one connection, so that none waits in silence.
const MOST_CALLS: usize = 200;

pub(crate) struct Outward {
    /// None for an agent that runs alone.
    supervisor: Option<Link>,
    places: Arc<Semaphore>,
}

impl Outward {
    pub(crate) fn to(supervisor: Option<Supervisor>) -> Self {
        let place = supervisor.map(|supervisor| match supervisor {
            Supervisor::Socket(path) => Place::Socket(path),
            Supervisor::Address(address) => Place::Address(address),
        });
        Self {
            supervisor: place.map(Link::to),
            places: Arc::new(Semaphore::new(MOST_CALLS)),
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
        let parent = Parent::of(front, request.headers());
        let hops = parent.hops.saturating_add(1);
        if hops > MAX_HOPS {
            return Err(CallError::TooManyHops(MAX_HOPS));
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| CallError::Overloaded)?;
        strip_ours(request.headers_mut());
        request.headers_mut().insert(HOPS, HeaderValue::from(hops));
        let mut unwanted = parent.over.map(over);
        let sent = match &mut unwanted {
            None => supervisor.send(request).await,
            Some(unwanted) => tokio::select! {
                sent = supervisor.send(request) => sent,
                () = unwanted => return Err(CallError::Cancelled),
            },
        };
        match sent {
            Ok(response) => {
                Ok(response.map(|body| Reply::Passed(Passed::by_other(body, unwanted, place))))
            }
            Err(error @ (LinkError::Connect(_) | LinkError::Broken(_))) => {
                Err(CallError::Unreachable(crate::chain(&error)))
            }
        }
    }
}

/// The call on whose behalf another one is made. The agent says which that is; one that lies about it begins a chain
/// of its own.
#[derive(Default)]
struct Parent {
    /// Agents that had called each other for it.
    hops: u32,
    over: Option<watch::Receiver<bool>>,
}

impl Parent {
    fn of(front: &Front, headers: &HeaderMap) -> Self {
        let named = headers.get(PARENT);
        let id: Option<u32> = named.and_then(|value| value.to_str().ok()?.parse().ok());
        let Some((id, serving)) = id.zip(front.serving().ok()) else {
            return Self::default();
        };
        Self {
            hops: serving.channel.hops(id),
            over: serving.channel.over(id),
        }
    }
}

/// Nobody wants what is done on behalf of a call that is over.
fn over(mut over: watch::Receiver<bool>) -> LocalBoxFuture<'static, ()> {
    Box::pin(async move {
        // A call that is forgotten is over too.
        let _over_or_forgotten = over.wait_for(|over| *over).await;
    })
}
