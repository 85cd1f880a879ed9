//! Which service answers a call.

use std::convert::Infallible;
use std::rc::Rc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use par_model::headers::AGENT_ID;
use par_model::{CallError, grpc};
use par_protocol::protobuf::{agent, python_agent};
use tonic::Status;

use super::reply::{Reply, refusal, refusal_of};
use super::{agent_service, own, python_agent as execution};
use crate::figures::Tallied;
use crate::http::{Door, Front};

/// Names of our own to which an agent's are not let in.
pub(super) const OURS: &str = "x-par-";

pub(super) async fn answer(
    front: Rc<Front>,
    door: Door,
    mut request: Request<Incoming>,
) -> Result<Response<Tallied<Reply>>, Infallible> {
    if let Err(error) = front.check(&door, &mut request) {
        return Ok(Tallied::grpc(refusal(&error), None));
    }
    if !is_grpc(&request) {
        return Ok(Tallied::grpc(not_grpc(), None));
    }
    // What the agent calls elsewhere is none of its own calls.
    let leaves = door.is_agents_own() && request.headers().contains_key(AGENT_ID);
    let tally = (!leaves && !is_health(&request)).then(|| front.figures.begin("grpc"));
    let answered = route(&front, &door, request).await;
    let response = answered.unwrap_or_else(|error| refusal(&error));
    Ok(Tallied::grpc(response, tally.flatten()))
}

async fn route(
    front: &Rc<Front>,
    door: &Door,
    request: Request<Incoming>,
) -> Result<Response<Reply>, CallError> {
    match asked_agent(request.headers())? {
        Some(_) if door.is_agents_own() => return front.outward.forward(front, request).await,
        Some(agent) if agent != front.about.agent.as_str() => {
            let shown = agent.chars().take(80).collect();
            return Err(CallError::UnknownAgent(shown));
        }
        _ => {}
    }
    let path = request.uri().path().to_owned();
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/'))
    else {
        return Ok(unimplemented(&path));
    };
    // An agent may bring a service of its own in place of ours, but not of the backend that it has asked for.
    let is_backend = service == python_agent::SERVICE && front.sessions().is_some();
    if front.own.serves(service) && !is_backend {
        return own::forward(front, door, request).await;
    }
    let answered = match service {
        agent::SERVICE => agent_service::answer(front, door, method, request).await,
        python_agent::SERVICE => execution::answer(front, method, request).await,
        _ => front.standard.answer(service, request).await,
    };
    Ok(answered.unwrap_or_else(|| unimplemented(&path)))
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    let named = content_type
        .is_some_and(|value| value.as_bytes().starts_with(grpc::CONTENT_TYPE.as_bytes()));
    named && request.method() == Method::POST
}

/// Asked by machines, again and again.
fn is_health(request: &Request<Incoming>) -> bool {
    request.uri().path().starts_with("/grpc.health.v1.Health/")
}

fn not_grpc() -> Response<Reply> {
    let mut response = Response::new(Reply::ours(tonic::body::Body::empty(), None));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

fn unimplemented(path: &str) -> Response<Reply> {
    let shown: String = path.chars().take(200).collect();
    refusal_of(Status::unimplemented(format!("{shown} is not served here")))
}

/// The agent that the call is for, if it says so.
fn asked_agent(headers: &HeaderMap) -> Result<Option<&str>, CallError> {
    let mut values = headers.get_all(AGENT_ID).iter();
    let (Some(value), rest) = (values.next(), values.next()) else {
        return Ok(None);
    };
    let agent = value.to_str().ok().filter(|_| rest.is_none());
    let wrong = || CallError::BadRequest(format!("`{AGENT_ID}` is not one agent's id"));
    agent.map(Some).ok_or_else(wrong)
}
