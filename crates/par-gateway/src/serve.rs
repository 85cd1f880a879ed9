//! One connection of a caller, from its first request to its end.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use par_model::CallError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::body::ReplyBody;
use crate::control::Peer;
use crate::forward::forward;
use crate::headers::{self, Identity};
use crate::path::{self, Asked};
use crate::refusal;
use crate::room::Room;
use crate::strict::Strict;
use crate::tunnel::Tunnel;

/// Whoever is at the other end of one connection.
pub(crate) struct Caller {
    room: Rc<Room>,
    peer: Peer,
    identity: Identity,
    /// Set by the last request on a connection that leaves HTTP.
    tunnel: RefCell<Option<Tunnel>>,
}

impl Caller {
    pub(crate) fn new(room: Rc<Room>, peer: Peer) -> Self {
        let identity = match &peer {
            Peer::Public(address) => Identity::public(address.ip()),
            Peer::Internal(agent) => Identity::agent(agent),
        };
        Self {
            room,
            peer,
            identity,
            tunnel: RefCell::new(None),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<ReplyBody> {
        let may_leave_http = request.headers().contains_key(UPGRADE);
        let answered = self.admit(request).await;
        let is_last = match &answered {
            // What follows a request to leave HTTP is not watched any more.
            Ok(response) => may_leave_http && response.status() != StatusCode::SWITCHING_PROTOCOLS,
            Err(CallError::BadRequest(_) | CallError::WrongMethod) => true,
            Err(_) => may_leave_http,
        };
        let mut response = answered.unwrap_or_else(|error| refusal::reply(&error));
        if is_last {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    async fn admit(
        &self,
        mut request: Request<Incoming>,
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
                let answer = forward(&self.room, &self.identity, &id, rest, request).await?;
                *self.tunnel.borrow_mut() = answer.tunnel;
                Ok(answer.response)
            }
        }
    }
}

/// Runs until the caller leaves or is idle for too long; once `closing`, until its request is answered.
pub(crate) async fn serve<S>(stream: S, caller: Caller, closing: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let caller = &caller;
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(caller.answer(request).await) });
    let connection = caller
        .room
        .http
        .serve_connection(TokioIo::new(Strict::new(stream)), service);
    let mut connection = std::pin::pin!(connection.with_upgrades());
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(peer = ?caller.peer, %error, "connection broken");
    }
    let tunnel = caller.tunnel.take();
    if let Some(tunnel) = tunnel
        && let Err(error) = tunnel.run().await
    {
        debug!(peer = ?caller.peer, %error, "tunnel broken");
    }
}
