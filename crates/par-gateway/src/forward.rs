//! One call: from its route to the answer of the agent.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use par_model::CallError;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::backend::{Backend, InFlight};
use crate::body::ReplyBody;
use crate::headers::{self, Identity};
use crate::hold::Hold;
use crate::idle;
use crate::path;
use crate::room::Room;
use crate::serve::Caller;
use crate::session::SessionKey;
use crate::tunnel::Tunnel;
use crate::upstream::{AgentBody, Link, Pool, Unanswered};

/// Longer than any caller waits, and short enough to be added to a point in time.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// An agent's answer, and a tunnel when both sides have agreed to leave HTTP.
pub(crate) struct Answer {
    pub(crate) response: Response<ReplyBody>,
    pub(crate) tunnel: Option<Tunnel>,
}

/// `agent` is the name as asked, `rest` the path below it.
pub(crate) async fn forward(
    room: &Room,
    caller: &Caller,
    agent: &str,
    rest: &str,
    mut request: Request<Incoming>,
) -> Result<Answer, CallError> {
    if let Some(answer) = idle::health(room, request.method(), agent, rest) {
        return Ok(Answer {
            response: answer,
            tunnel: None,
        });
    }
    let is_one_of_many = request.version() == Version::HTTP_2;
    let session = SessionKey::asked(rest, request.headers());
    let upgrade = prepare(&mut request, &caller.identity, rest)?;
    let asked = headers::asked_deadline(request.headers());
    let limit = asked.unwrap_or(room.config.call_timeout);
    let patience = limit.saturating_add(room.config.answer_slack);
    let rounds = room.watch.rounds_in(patience);
    let hold = Hold::of_call(room, agent, rest);
    let mut hold = hold.of_session(session).within(Some(limit));
    loop {
        let in_flight = hold.ready().await?;
        let backend = Arc::clone(in_flight.backend());
        headers::describe_address(request.headers_mut(), backend.prefix());
        let pool = room.pools.of(&backend);
        let Some((mut link, is_fresh)) = link(room, agent, &backend, &pool).await else {
            drop(in_flight);
            hold.missed(backend.replica()).await?;
            continue;
        };
        hold.reached(&in_flight);
        if let (Some(asked), Some(waited)) = (asked, hold.waited()) {
            headers::shorten_deadline(request.headers_mut(), asked, waited)?;
        }
        let answer = link.send(request);
        let answer = match is_one_of_many {
            false => caller.watched.wait_for_answer(rounds, answer).await,
            true => unless_still(patience, answer).await,
        };
        match answer.ok_or(CallError::DeadlineExceeded(limit))? {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return switch(response, upgrade, link, in_flight);
            }
            Ok(response) => {
                return Ok(Answer {
                    response: relay(response, |body| AgentBody::new(body, link, pool, in_flight)),
                    tunnel: None,
                });
            }
            Err(Unanswered::Unsent(returned)) => request = *returned,
            Err(Unanswered::BadBody) => {
                return Err(CallError::BadRequest("the body broke off".into()));
            }
            Err(Unanswered::Broken(error)) => {
                debug!(agent, replica = %backend.replica(), %error, "call broken");
                return Err(gone("its connection closed before an answer"));
            }
        }
        if is_fresh {
            hold.missed(backend.replica()).await?;
        }
    }
}

/// None when nothing moves for so long. Whatever wakes us before the timer does is something that moved: the upload, or
/// the worker's connection.
async fn unless_still<T>(patience: Duration, answer: impl Future<Output = T>) -> Option<T> {
    let patience = patience.min(FOREVER);
    let mut answer = pin!(answer);
    let mut timer = Box::pin(sleep(patience));
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        timer.as_mut().reset(Instant::now() + patience);
        Poll::Pending
    })
    .await
}

pub(crate) fn gone(how: &str) -> CallError {
    CallError::AgentGone(how.to_owned())
}

/// Makes the request one that a worker understands; the way back to the caller's stream, if it asked for WebSocket.
fn prepare(
    request: &mut Request<Incoming>,
    caller: &Identity,
    rest: &str,
) -> Result<Option<OnUpgrade>, CallError> {
    let target = path::target(rest, request.uri().query());
    let target = PathAndQuery::from_maybe_shared(Bytes::from(target))
        .map_err(|_| CallError::BadRequest("the path is not valid".into()))?;
    *request.uri_mut() = Uri::from(target);
    let websocket = headers::asks_for_websocket(request);
    *request.version_mut() = Version::HTTP_11;
    headers::strip_hop_by_hop(request.headers_mut());
    // After the stripping: no caller may name what we say of it as a header of its connection.
    headers::identify(request.headers_mut(), caller)?;
    if !websocket {
        return Ok(None);
    }
    headers::ask_for_websocket(request.headers_mut());
    Ok(Some(hyper::upgrade::on(request)))
}

/// A connection for one call, and whether it is a new one.
async fn link(room: &Room, agent: &str, backend: &Backend, pool: &Pool) -> Option<(Link, bool)> {
    if let Some(link) = pool.take() {
        return Some((link, false));
    }
    let opening = Link::open(backend.socket(), room.config.max_header_bytes);
    let link = connect(room, agent, backend, opening).await?;
    Some((link, true))
}

/// A new connection to the backend, unless nobody listens there.
pub(crate) async fn connect<L>(
    room: &Room,
    agent: &str,
    backend: &Backend,
    opening: impl Future<Output = io::Result<L>>,
) -> Option<L> {
    let link = match tokio::time::timeout(room.config.connect_timeout, opening).await {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => {
            backend.shun();
            debug!(agent, replica = %backend.replica(), %error, "failed to connect to a worker");
            return None;
        }
        Err(_) => {
            backend.shun();
            debug!(agent, replica = %backend.replica(), "a worker did not accept a connection in time");
            return None;
        }
    };
    // The path may belong to another worker by now, but not before this one was withdrawn.
    room.routes
        .peek()
        .leads(agent, backend.replica())
        .then_some(link)
}

fn relay(
    response: Response<Incoming>,
    body: impl FnOnce(Incoming) -> AgentBody,
) -> Response<ReplyBody> {
    let mut response = response.map(|incoming| ReplyBody::Agent(body(incoming)));
    *response.version_mut() = Version::HTTP_11;
    headers::strip_hop_by_hop(response.headers_mut());
    response
}

fn switch(
    response: Response<Incoming>,
    upgrade: Option<OnUpgrade>,
    link: Link,
    in_flight: InFlight,
) -> Result<Answer, CallError> {
    let upgrade = upgrade.ok_or_else(|| gone("it switched protocols unasked"))?;
    let stream = link
        .into_stream()
        .ok_or_else(|| gone("it ended while it switched protocols"))?;
    let mut response = response.map(|_| ReplyBody::Words(Full::default()));
    headers::strip_hop_by_hop(response.headers_mut());
    headers::ask_for_websocket(response.headers_mut());
    let tunnel = Tunnel::new(upgrade, stream, in_flight);
    Ok(Answer {
        response,
        tunnel: Some(tunnel),
    })
}
