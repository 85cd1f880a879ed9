//! What a gRPC call is answered with, whoever answers it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use par_model::{CallError, grpc};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use crate::admission::{Memory, Place};
use crate::agent::Exchange;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) enum Reply {
    /// By one of the runtime's own services.
    Ours(Ours),
    /// By another server, as it came.
    Passed(Passed),
}

/// An answer of ours, and the memory that it takes until the caller has taken it.
pub(crate) struct Ours {
    body: tonic::body::Body,
    /// Of a message that is being sent.
    rest: Bytes,
    _memory: Option<Memory>,
}

/// The server takes a piece as soon as there is room for one byte of it, and buffers it whole.
const PIECE: usize = 64 << 10;

impl Ours {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(message) => self.rest = message,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let piece = self.rest.split_to(PIECE.min(self.rest.len()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.is_empty() {
            true => self.body.size_hint(),
            false => SizeHint::default(),
        }
    }
}

impl Reply {
    pub(super) fn ours(body: tonic::body::Body, memory: Option<Memory>) -> Self {
        Self::Ours(Ours {
            body,
            rest: Bytes::new(),
            _memory: memory,
        })
    }
}

/// An answer of another server. When that server goes, its caller is told in trailers.
pub(crate) struct Passed {
    /// None once it has ended.
    body: Option<Incoming>,
    /// What the call is, and takes, in our own books, until it ends.
    own: Option<OwnCall>,
    /// Its place among the agent's calls to others.
    outward: Option<OwnedSemaphorePermit>,
    /// When nobody wants the answer any more.
    unwanted: Option<LocalBoxFuture<'static, ()>>,
}

/// A call to one of the agent's own services.
pub(super) struct OwnCall {
    pub(super) exchange: Exchange,
    pub(super) _place: Place,
}

impl Passed {
    /// Of one of the agent's own services.
    pub(super) fn by_own(body: Incoming, own: OwnCall) -> Self {
        Self {
            own: Some(own),
            ..Self::from(body)
        }
    }

    /// Of another agent, for as long as it is wanted.
    pub(super) fn by_other(
        body: Incoming,
        unwanted: Option<LocalBoxFuture<'static, ()>>,
        outward: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            unwanted,
            outward: Some(outward),
            ..Self::from(body)
        }
    }

    fn end(&mut self) {
        self.body = None;
        self.unwanted = None;
        self.outward = None;
        if let Some(mut own) = self.own.take() {
            own.exchange.finish();
        }
    }
}

impl From<Incoming> for Passed {
    fn from(body: Incoming) -> Self {
        Self {
            body: Some(body).filter(|body| !body.is_end_stream()),
            own: None,
            outward: None,
            unwanted: None,
        }
    }
}

pub(super) fn status(error: &CallError) -> Status {
    Status::new(error.on_the_wire().1.into(), error.to_string())
}

pub(super) fn refusal(error: &CallError) -> Response<Reply> {
    refusal_of(status(error))
}

pub(super) fn refusal_of(status: Status) -> Response<Reply> {
    let response = status.into_http::<tonic::body::Body>();
    response.map(|body| Reply::ours(body, None))
}

impl Body for Passed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let unwanted = self.unwanted.as_mut();
        if unwanted.is_some_and(|unwanted| unwanted.as_mut().poll(cx).is_ready()) {
            self.end();
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&CallError::Cancelled)))));
        }
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        let frame = match std::task::ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            None => {
                self.end();
                return Poll::Ready(None);
            }
            Some(Err(broken)) => {
                self.end();
                Frame::trailers(trailers(&gone(&broken)))
            }
        };
        if frame.is_trailers() {
            self.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body {
            None => SizeHint::with_exact(0),
            // Trailers may have to follow where a length was announced.
            Some(_) => SizeHint::default(),
        }
    }
}

fn gone(broken: &hyper::Error) -> CallError {
    CallError::AgentGone(par_model::failure::chain(broken))
}

fn trailers(error: &CallError) -> HeaderMap {
    let message = grpc::encode_message(&error.to_string());
    let mut trailers = HeaderMap::new();
    trailers.insert(grpc::STATUS, HeaderValue::from(error.on_the_wire().1));
    if let Ok(message) = HeaderValue::try_from(message) {
        trailers.insert(grpc::MESSAGE, message);
    }
    trailers
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Ours(ours) => ours.poll_piece(cx).map_err(BoxError::from),
            Self::Passed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Ours(ours) => ours.is_end_stream(),
            Self::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ours(ours) => ours.size_hint(),
            Self::Passed(body) => body.size_hint(),
        }
    }
}
