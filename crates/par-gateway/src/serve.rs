//! One connection of a caller, from its first request to its end.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use par_access::Action;
use par_door::{Account, Strict, settle_host};
use par_model::CallError;
use par_telemetry::metrics::Tally;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use crate::body::ReplyBody;
use crate::control::Peer;
use crate::forward::forward;
use crate::gate::{self, Asker, Who};
use crate::headers::{self, Identity, Scheme};
use crate::ledger::Turns;
use crate::path::{self, Asked};
use crate::refusal;
use crate::room::Room;
use crate::sniff::{self, Protocol, Sniff};
use crate::streams;
use crate::tunnel::Tunnel;
use crate::watch::{Attended, Verdict, Watched};

/// Whoever is at the other end of one connection.
pub(crate) struct Caller {
    pub(crate) room: Rc<Room>,
    peer: Peer,
    account: Arc<Account>,
    who: Who,
    pub(crate) identity: Identity,
    pub(crate) watched: Rc<Watched>,
    /// Set by the last request on a connection that leaves HTTP.
    tunnel: RefCell<Option<Leaving>>,
}

/// A call that goes on when its connection has left HTTP.
struct Leaving {
    tunnel: Tunnel,
    _turns: Turns,
}

impl Caller {
    pub(crate) fn new(
        room: Rc<Room>,
        peer: Peer,
        account: Arc<Account>,
        watched: Rc<Watched>,
        scheme: Scheme,
    ) -> Self {
        let identity = match &peer {
            Peer::Public { address, .. } => Identity::public(address.ip(), scheme),
            Peer::Internal(agent) => Identity::agent(agent),
        };
        Self {
            room,
            who: Who::from(&peer),
            peer,
            account,
            identity,
            watched,
            tunnel: RefCell::new(None),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Attended> {
        let mut on_call = self.watched.begin_call();
        let may_leave_http = request.headers().contains_key(UPGRADE);
        let (answered, tally) = self.admit(request, &mut on_call.turns).await;
        let is_last = match &answered {
            // What follows a request to leave HTTP is not watched any more.
            Ok(response) => may_leave_http && response.status() != StatusCode::SWITCHING_PROTOCOLS,
            Err(CallError::BadRequest(_) | CallError::WrongMethod) => true,
            Err(_) => may_leave_http,
        };
        let mut response = answered.unwrap_or_else(|error| refusal::reply(&error));
        if is_last || self.watched.is_retiring() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response.map(|body| Attended::new(body, on_call, tally))
    }

    /// Whether a request may come from this caller at all, before it is known whom it asks.
    pub(crate) fn check<B>(
        &self,
        request: &mut Request<B>,
        turns: &mut Turns,
    ) -> Result<(), CallError> {
        self.room.ledger.admit(&self.account, turns)?;
        settle_host(request)?;
        match self.peer {
            // Pages of a browser come through the public door only.
            Peer::Public { .. } => self.room.config.names.admit_request(request.headers()),
            Peer::Internal(_) => Ok(()),
        }
    }

    /// What is answered, and where it counts if it is a call.
    pub(crate) async fn admit(
        &self,
        request: Request<Incoming>,
        turns: &mut Turns,
    ) -> (Result<Response<ReplyBody>, CallError>, Option<Tally>) {
        let mut tally = None;
        let answered = self.ask(request, &mut tally, turns).await;
        if let Some(tally) = &mut tally {
            tally.ends_with(match &answered {
                Ok(response) => response.status().as_u16(),
                Err(error) => error.http_status(),
            });
        }
        (answered, tally)
    }

    async fn ask(
        &self,
        mut request: Request<Incoming>,
        tally: &mut Option<Tally>,
        turns: &mut Turns,
    ) -> Result<Response<ReplyBody>, CallError> {
        if request.method() == Method::CONNECT {
            return Err(CallError::WrongMethod);
        }
        self.check(&mut request, turns)?;
        let uri = request.uri().clone();
        let asked = path::split(uri.path());
        let action = match &asked {
            Asked::Agent { id, .. } => Action::Call(id),
            Asked::Control => Action::of_control(request.method().as_str(), uri.path()),
        };
        let method = request.method().clone();
        self.let_pass(action, &method, &uri, request.headers_mut())
            .await?;
        match asked {
            Asked::Control => {
                headers::identify(request.headers_mut(), &self.identity)?;
                self.room.ask_control(request, self.peer.clone()).await
            }
            Asked::Agent { id, rest } => {
                let room = &self.room;
                *tally = Some(room.routes.count_http(&id));
                room.ledger
                    .admit_to(|| room.routes.account_of(&id), turns)?;
                let answer = forward(room, self, &id, rest, request).await?;
                *self.tunnel.borrow_mut() = answer.tunnel.map(|tunnel| Leaving {
                    tunnel,
                    _turns: std::mem::take(turns),
                });
                Ok(answer.response)
            }
        }
    }
}

impl Caller {
    /// The one place where it is decided whether this caller may; `action` is what is then done.
    pub(crate) async fn let_pass(
        &self,
        action: Action<'_>,
        method: &Method,
        uri: &Uri,
        headers: &mut HeaderMap,
    ) -> Result<(), CallError> {
        let asker = Asker {
            who: &self.who,
            verified: &self.room.verified,
            audits_calls: self.room.config.audit_calls,
        };
        let asked = gate::Asked {
            action,
            method: method.as_str(),
            path: uri.path(),
        };
        self.room.gate.admit(&asker, &asked, headers).await
    }
}

/// Runs until the caller leaves or is silent for too long, or the gateway closes.
pub(crate) async fn serve<S>(stream: S, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Sniff + Unpin + Send + 'static,
{
    let sniffed = caller
        .watched
        .unless_told_to_leave(sniff::protocol(&stream));
    match sniffed.await {
        // Silent for too long.
        None => {}
        Some(Ok(protocol)) => serve_as(protocol, stream, caller).await,
        Some(Err(error)) => debug!(peer = ?caller.peer, %error, "connection broken before a word"),
    }
}

/// As [`serve`], when it is known what is spoken.
pub(crate) async fn serve_as<S>(protocol: Protocol, stream: S, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match protocol {
        Protocol::Http1 => serve_one_by_one(stream, caller).await,
        // Boxed: connections that speak HTTP/1 are no larger for it.
        Protocol::Http2 => {
            let peer = caller.peer.clone();
            if let Err(error) = Box::pin(streams::serve(stream, caller)).await {
                debug!(?peer, %error, "connection broken");
            }
        }
    }
}

async fn serve_one_by_one<S>(stream: S, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Strict::new(stream, caller.watched.pulse());
    if let Err(error) = serve_http(stream, &caller).await {
        debug!(peer = ?caller.peer, %error, "connection broken");
    }
    let leaving = caller.tunnel.take();
    if let Some(Leaving { tunnel, _turns }) = leaving
        && let Err(error) = tunnel.run(caller.room.config.websocket_idle).await
    {
        debug!(peer = ?caller.peer, %error, "tunnel broken");
    }
}

async fn serve_http<S>(stream: Strict<S>, caller: &Caller) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(caller.answer(request).await) });
    let http = &caller.room.http;
    let mut connection = pin!(
        http.serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let mut told = Verdict::Stay;
    poll_fn(|cx| {
        match caller.watched.verdict(cx) {
            Verdict::Leave | Verdict::Cut => return Poll::Ready(Ok(())),
            Verdict::Finish if told == Verdict::Stay => {
                told = Verdict::Finish;
                connection.as_mut().graceful_shutdown();
            }
            Verdict::Stay | Verdict::Retire | Verdict::Finish => {}
        }
        connection.as_mut().poll(cx)
    })
    .await
}
