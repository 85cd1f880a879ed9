//! The body of a request, counted with all other bodies of the agent while it is read and after.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tonic::Status;

use super::reply::status;
use crate::admission::Memory;

pub(super) struct Counted {
    body: Incoming,
    seen: u64,
    memory: Option<Memory>,
    /// Whoever goes on with what was read takes its memory over.
    successor: Option<oneshot::Sender<Memory>>,
}

impl Counted {
    /// The body, and its memory once it was read or dropped.
    pub(super) fn new(body: Incoming, memory: Memory) -> (Self, oneshot::Receiver<Memory>) {
        let (successor, inherited) = oneshot::channel();
        let counted = Self {
            body,
            seen: 0,
            memory: Some(memory),
            successor: Some(successor),
        };
        (counted, inherited)
    }

    fn count(&mut self, data: &Bytes) -> Result<(), Status> {
        self.seen += data.len() as u64;
        let grown = self.memory.as_mut().map(|memory| memory.grow(self.seen));
        grown.unwrap_or(Ok(())).map_err(|error| status(&error))
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| Status::from_error(error.into()))?;
            if let Some(data) = frame.data_ref() {
                self.count(data)?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let (Some(successor), Some(memory)) = (self.successor.take(), self.memory.take()) {
            // Nobody went on: then the memory is free.
            let _free = successor.send(memory);
        }
    }
}
