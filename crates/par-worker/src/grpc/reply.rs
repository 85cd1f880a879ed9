//! What a gRPC call is answered with, whoever answers it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use par_model::{CallError, grpc};
use tonic::Status;

use crate::admission::Place;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) enum Reply {
    /// By one of the runtime's own services.
    Ours(tonic::body::Body),
    /// By another server, as it came.
    Passed(Passed),
}

/// An answer of another server. When that server goes, its caller is told in trailers.
pub(crate) struct Passed {
    body: Incoming,
    ended: bool,
    _place: Option<Place>,
}

impl Passed {
    pub(super) fn new(body: Incoming, place: Option<Place>) -> Self {
        Self {
            ended: body.is_end_stream(),
            body,
            _place: place,
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
    status.into_http::<tonic::body::Body>().map(Reply::Ours)
}

impl Body for Passed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        Poll::Ready(match std::task::ready!(polled) {
            Some(Ok(frame)) => Some(Ok(frame)),
            None => {
                self.ended = true;
                None
            }
            Some(Err(broken)) => {
                self.ended = true;
                Some(Ok(Frame::trailers(gone(&broken))))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        match self.ended {
            true => SizeHint::with_exact(0),
            // Trailers may have to follow where a length was announced.
            false => SizeHint::default(),
        }
    }
}

fn gone(broken: &hyper::Error) -> HeaderMap {
    let error = CallError::AgentGone(par_model::failure::chain(broken));
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
            Self::Ours(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
            Self::Passed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Ours(body) => body.is_end_stream(),
            Self::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ours(body) => body.size_hint(),
            Self::Passed(body) => body.size_hint(),
        }
    }
}
