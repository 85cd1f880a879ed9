//! The body of an answer, whoever gives it, without a box around what an agent streams.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;

use crate::call_body::CallBody;
use crate::idle::IdleBody;
use crate::upstream::AgentBody;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the control API answers with.
pub type ControlBody = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) enum ReplyBody {
    Agent(AgentBody),
    /// Boxed: the others are no larger for it.
    Call(Box<CallBody>),
    Control(ControlBody),
    Idle(Box<IdleBody>),
    Words(Full<Bytes>),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Agent(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|broken| -> BoxError { broken.into() }),
            Self::Call(body) => Pin::new(body).poll_frame(cx),
            Self::Control(body) => Pin::new(body).poll_frame(cx),
            Self::Idle(body) => Pin::new(body).poll_frame(cx),
            Self::Words(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Agent(body) => body.is_end_stream(),
            Self::Call(body) => body.is_end_stream(),
            Self::Control(body) => body.is_end_stream(),
            Self::Idle(body) => body.is_end_stream(),
            Self::Words(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Agent(body) => body.size_hint(),
            Self::Call(body) => body.size_hint(),
            Self::Control(body) => body.size_hint(),
            Self::Idle(body) => body.size_hint(),
            Self::Words(body) => body.size_hint(),
        }
    }
}
