//! Services that the agent serves itself: its server listens on a socket that only the worker knows, and each call to
//! one of them is passed on as it came.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use par_model::CallError;
use par_model::headers::CALL;
use par_protocol::harness::Serves;

use super::link::{Link, LinkError, Place};
use super::reply::{OwnCall, Passed, Reply};
use super::route::OURS;
use crate::http::{Door, Front, given};

/// Services that an agent may have, the longest of their names, and what describes all of them, in bytes.
const MOST_SERVICES: usize = 256;
const LONGEST_NAME: usize = 256;
const MOST_DESCRIPTORS: usize = 2 << 20;

pub(crate) struct Own {
    /// None where the agent has been given no socket.
    link: Option<Link>,
    services: RefCell<HashSet<String>>,
}

impl Own {
    pub(crate) fn at(socket: Option<PathBuf>) -> Self {
        Self {
            link: socket.map(|socket| Link::to(Place::Socket(socket))),
            services: RefCell::default(),
        }
    }

    pub(super) fn serves(&self, service: &str) -> bool {
        self.services.borrow().contains(service)
    }

    pub(crate) fn services(&self) -> Vec<String> {
        self.services.borrow().iter().cloned().collect()
    }

    /// Takes what the agent says that it serves; the descriptors among it, decoded.
    pub(crate) fn announce(&self, serves: &Serves) -> Vec<Vec<u8>> {
        let services = serves.services.iter().filter(|name| may_serve(name));
        let services = services.take(MOST_SERVICES).cloned();
        self.services.replace(services.collect());
        let size: usize = serves.descriptors.iter().map(String::len).sum();
        let descriptors = serves
            .descriptors
            .iter()
            .filter(|_| size <= MOST_DESCRIPTORS);
        descriptors
            .filter_map(|text| BASE64_STANDARD.decode(text).ok())
            .collect()
    }
}

pub(super) async fn forward(
    front: &Front,
    door: &Door,
    mut request: Request<Incoming>,
) -> Result<Response<Reply>, CallError> {
    let serving = front.serving()?;
    let link = front.own.link.as_ref();
    let link = link.ok_or_else(|| CallError::NotReady(front.about.agent.clone()))?;
    let own = OwnCall {
        exchange: serving.channel.begin(door.hops(request.headers())),
        _place: serving.admission.stream()?,
    };
    if !door.is_trusted() {
        strip_ours(request.headers_mut());
    }
    let id = own.exchange.id();
    serving.output.names.begin(id, given(request.headers()));
    let id = HeaderValue::from(id);
    request.headers_mut().insert(CALL, id);
    match link.send(request).await {
        Ok(response) => Ok(response.map(|body| Reply::Passed(Passed::by_own(body, own)))),
        Err(error @ LinkError::Connect(_)) => {
            tracing::debug!(%error, "the agent's own gRPC server is not there");
            Err(CallError::NotReady(front.about.agent.clone()))
        }
        Err(error) => Err(CallError::AgentGone(crate::chain(&error))),
    }
}

/// Health and reflection tell of the whole port, and are the worker's.
fn may_serve(service: &str) -> bool {
    let standard = ["grpc.health.", "grpc.reflection."];
    (1..=LONGEST_NAME).contains(&service.len())
        && !standard.iter().any(|prefix| service.starts_with(prefix))
}

/// A token for the supervisor that came here by mistake, or by another agent's hand.
fn has_our_token(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(AUTHORIZATION).into_iter();
    lines.any(|line| par_access::is_our_token(line.as_bytes()))
}

/// On a public door nobody is believed who he says he is.
pub(super) fn strip_ours(headers: &mut HeaderMap) {
    let ours = headers
        .keys()
        .filter(|name| name.as_str().starts_with(OURS));
    let forged: Vec<HeaderName> = ours.cloned().collect();
    for name in forged {
        headers.remove(name);
    }
    if has_our_token(headers) {
        headers.remove(AUTHORIZATION);
    }
}
