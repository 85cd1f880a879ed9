//! One connection of a caller, from its first request to its end.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use par_model::CallError;
use par_telemetry::metrics::Tally;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use crate::body::ReplyBody;
use crate::control::Peer;
use crate::forward::forward;
use crate::headers::{self, Identity};
use crate::path::{self, Asked};
use crate::refusal;
use crate::room::Room;
use crate::sniff::{self, Protocol, Sniff};
use crate::streams;
use crate::strict::Strict;
use crate::tunnel::Tunnel;
use crate::watch::{Attended, Verdict, Watched};

/// Whoever is at the other end of one connection.
pub(crate) struct Caller {
    pub(crate) room: Rc<Room>,
    peer: Peer,
    pub(crate) identity: Identity,
    pub(crate) watched: Rc<Watched>,
    /// Set by the last request on a connection that leaves HTTP.
    tunnel: RefCell<Option<Tunnel>>,
}

impl Caller {
    pub(crate) fn new(room: Rc<Room>, peer: Peer) -> Self {
        let identity = match &peer {
            Peer::Public(address) => Identity::public(address.ip()),
            Peer::Internal(agent) => Identity::agent(agent),
        };
        let watched = room.watch.enter();
        Self {
            room,
            peer,
            identity,
            watched,
            tunnel: RefCell::new(None),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Attended> {
        let on_call = self.watched.begin_call();
        let may_leave_http = request.headers().contains_key(UPGRADE);
        let (answered, tally) = self.admit(request).await;
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
        response.map(|body| Attended {
            body,
            _on_call: on_call,
            tally,
        })
    }

    /// What is answered, and where it counts if it is a call.
    pub(crate) async fn admit(
        &self,
        request: Request<Incoming>,
    ) -> (Result<Response<ReplyBody>, CallError>, Option<Tally>) {
        let mut tally = None;
        let answered = self.ask(request, &mut tally).await;
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
    ) -> Result<Response<ReplyBody>, CallError> {
        if request.method() == Method::CONNECT {
            return Err(CallError::WrongMethod);
        }
        headers::check_host(&mut request)?;
        let uri = request.uri().clone();
        match path::split(uri.path()) {
            Asked::Control => {
                headers::identify(request.headers_mut(), &self.identity)?;
                self.room.ask_control(request, self.peer.clone()).await
            }
            Asked::Agent { id, rest } => {
                *tally = Some(self.room.routes.count_http(&id));
                let answer = forward(&self.room, self, &id, rest, request).await?;
                *self.tunnel.borrow_mut() = answer.tunnel;
                Ok(answer.response)
            }
        }
    }
}

/// Runs until the caller leaves or is silent for too long, or the gateway closes.
pub(crate) async fn serve<S>(stream: S, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Sniff + Unpin + Send + 'static,
{
    let peer = caller.peer.clone();
    match sniffed(&stream, &caller.watched).await {
        None => {}
        Some(Ok(Protocol::Http1)) => serve_one_by_one(stream, caller).await,
        // Boxed: connections that speak HTTP/1 are no larger for it.
        Some(Ok(Protocol::Http2)) => {
            if let Err(error) = Box::pin(streams::serve(stream, caller)).await {
                debug!(?peer, %error, "connection broken");
            }
        }
        Some(Err(error)) => debug!(?peer, %error, "connection broken before a word"),
    }
}

/// None when the caller was silent for too long.
async fn sniffed(stream: &impl Sniff, watched: &Watched) -> Option<io::Result<Protocol>> {
    let mut sniffing = pin!(sniff::protocol(stream));
    poll_fn(|cx| match watched.verdict(cx) {
        Verdict::Stay | Verdict::Retire => sniffing.as_mut().poll(cx).map(Some),
        Verdict::Finish | Verdict::Leave => Poll::Ready(None),
    })
    .await
}

async fn serve_one_by_one<S>(stream: S, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Strict::new(stream, caller.watched.pulse());
    if let Err(error) = serve_http(stream, &caller).await {
        debug!(peer = ?caller.peer, %error, "connection broken");
    }
    let tunnel = caller.tunnel.take();
    if let Some(tunnel) = tunnel
        && let Err(error) = tunnel.run().await
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
            Verdict::Leave => return Poll::Ready(Ok(())),
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
