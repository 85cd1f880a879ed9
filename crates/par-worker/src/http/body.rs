//! Bodies of answers: whole, or streamed from the agent as it makes them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame as BodyFrame, SizeHint};
use par_protocol::frame::{CHUNK_LAST, CHUNK_MORE, CHUNK_TRAILERS, Frame, Kind, split_chunk};
use par_protocol::harness::Failure;
use tokio::task::AbortHandle;

use crate::admission::Memory;
use crate::agent::Exchange;

pub(crate) enum Answer {
    Whole(Whole),
    Streamed(Box<AgentStream>),
    Other(http_body_util::combinators::UnsyncBoxBody<Bytes, StreamError>),
}

/// An answer that is there, and the memory that it takes until the client has taken it.
pub(crate) struct Whole {
    rest: Bytes,
    _memory: Option<Memory>,
}

impl Whole {
    pub(crate) fn new(bytes: Bytes, memory: Option<Memory>) -> Self {
        Self {
            rest: bytes,
            _memory: memory,
        }
    }

    /// Goes out in pieces: what waits for a slow client waits here, where it is counted.
    fn next(&mut self) -> Option<Bytes> {
        (!self.rest.is_empty()).then(|| self.rest.split_to(self.rest.len().min(PIECE)))
    }
}

const PIECE: usize = 64 << 10;

/// Why a stream broke off. The client's connection is cut, so that it cannot be taken for a clean end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("the agent ended while it answered")]
    AgentGone,
    #[error("the agent failed while it answered: {0}")]
    Failed(String),
    #[error("failed to read a file")]
    File(#[from] std::io::Error),
}

impl From<Infallible> for StreamError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Answer {
    pub(crate) fn empty() -> Self {
        Self::Whole(Whole::new(Bytes::new(), None))
    }
}

/// How the chunks of an agent are put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As they are: the body of an ASGI application.
    Raw,
    /// Each a server-sent event.
    Events,
    /// Each a line of JSON.
    Lines,
}

impl Framing {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Raw => "application/octet-stream",
            Self::Events => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        }
    }

    /// Puts a piece of an item on the wire: `begins` and `ends` say whether the item begins and ends with it.
    fn frame(self, piece: Bytes, begins: bool, ends: bool) -> Bytes {
        let (before, after): (&[u8], &[u8]) = match self {
            Self::Raw => return piece,
            Self::Events => (b"data: ", b"\n\n"),
            Self::Lines => (b"", b"\n"),
        };
        let mut framed = BytesMut::with_capacity(before.len() + piece.len() + after.len());
        if begins {
            framed.extend_from_slice(before);
        }
        framed.extend_from_slice(&piece);
        if ends {
            framed.extend_from_slice(after);
        }
        framed.freeze()
    }
}

/// The rest of an answer. Dropped early, because the client left, it cancels the call.
pub(crate) struct AgentStream {
    exchange: Exchange,
    framing: Framing,
    /// A frame that was read before the stream began.
    first: Option<Frame>,
    /// The last piece was not the end of its item.
    within_item: bool,
    ended: bool,
    /// Sends the request's body; pointless when the answer is over.
    upload: Option<AbortHandle>,
}

impl AgentStream {
    pub(crate) fn new(exchange: Exchange, framing: Framing, first: Option<Frame>) -> Self {
        Self {
            exchange,
            framing,
            first,
            within_item: false,
            ended: false,
            upload: None,
        }
    }

    pub(crate) fn with_upload(mut self, upload: Option<AbortHandle>) -> Self {
        self.upload = upload;
        self
    }

    fn end(&mut self) {
        self.ended = true;
        self.exchange.finish();
    }

    fn take(&mut self, frame: Frame) -> Option<Result<BodyFrame<Bytes>, StreamError>> {
        match frame.kind {
            Kind::Chunk => {
                self.exchange.used(frame.body.len());
                let Ok((flags, bytes)) = split_chunk(frame.body) else {
                    return Some(Err(StreamError::Failed("a chunk without flags".to_owned())));
                };
                if flags & (CHUNK_LAST | CHUNK_TRAILERS) != 0 {
                    self.end();
                }
                if flags & CHUNK_TRAILERS != 0 {
                    return Some(Ok(BodyFrame::trailers(trailers(&bytes))));
                }
                let begins = !std::mem::replace(&mut self.within_item, flags & CHUNK_MORE != 0);
                let framed = self.framing.frame(bytes, begins, !self.within_item);
                (!framed.is_empty()).then(|| Ok(BodyFrame::data(framed)))
            }
            Kind::Result => {
                self.end();
                None
            }
            Kind::Error => {
                self.end();
                self.fail(&frame.body)
            }
            // Nothing else belongs here; an agent that says it harms only its own answer.
            _ => None,
        }
    }

    /// An event stream can tell of its failure; everything else is cut off.
    fn fail(&self, body: &[u8]) -> Option<Result<BodyFrame<Bytes>, StreamError>> {
        let detail = serde_json::from_slice(body)
            .map_or_else(|error| error.to_string(), |failure: Failure| failure.detail);
        if self.framing != Framing::Events {
            return Some(Err(StreamError::Failed(detail)));
        }
        let event = format!(
            "event: error\ndata: {}\n\n",
            par_model::api::detail(&detail)
        );
        Some(Ok(BodyFrame::data(event.into())))
    }
}

impl Drop for AgentStream {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.abort();
        }
    }
}

fn trailers(json: &[u8]) -> HeaderMap {
    let pairs: Vec<(String, String)> = serde_json::from_slice(json).unwrap_or_default();
    pairs
        .into_iter()
        .filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::from_bytes(&latin1(&value)).ok()?))
        })
        .collect()
}

/// Text in which each character stands for one byte, as JSON carries header values.
pub(crate) fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
        .collect()
}

impl Body for AgentStream {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, StreamError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let frame = match self.first.take() {
                Some(frame) => Ok(frame),
                None => ready!(self.exchange.poll_next(cx)),
            };
            let Ok(frame) = frame else {
                self.ended = true;
                return Poll::Ready(Some(Err(StreamError::AgentGone)));
            };
            if let Some(item) = self.take(frame) {
                return Poll::Ready(Some(item));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, StreamError>>> {
        match &mut *self {
            Self::Whole(whole) => Poll::Ready(whole.next().map(|piece| Ok(BodyFrame::data(piece)))),
            Self::Streamed(stream) => Pin::new(stream).poll_frame(cx),
            Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.rest.is_empty(),
            Self::Streamed(stream) => stream.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => SizeHint::with_exact(whole.rest.len() as u64),

            Self::Streamed(_) => SizeHint::default(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_in_pieces_is_one_event() {
        let piece = |text: &'static str| Bytes::from_static(text.as_bytes());
        let pieces = [
            ("[1,", true, false),
            ("2", false, false),
            ("]", false, true),
        ];
        let wire = |framing: Framing| -> Vec<u8> {
            pieces
                .iter()
                .flat_map(|&(text, begins, ends)| framing.frame(piece(text), begins, ends))
                .collect()
        };
        assert_eq!(wire(Framing::Events), b"data: [1,2]\n\n");
        assert_eq!(wire(Framing::Lines), b"[1,2]\n");
        assert_eq!(wire(Framing::Raw), b"[1,2]");
    }
}
