//! What a caller sends during a gRPC call, on its way to the worker: as it comes, no faster than it is taken.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use hyper::body::Incoming;

/// Runs until all was sent, or either side has left.
pub(crate) struct Pump {
    from: Incoming,
    to: SendStream<Bytes>,
    /// Waits until the worker takes more.
    piece: Option<Bytes>,
}

impl Pump {
    /// `first` was already taken from the beginning of `from`.
    pub(crate) fn new(first: Option<Bytes>, from: Incoming, mut to: SendStream<Bytes>) -> Self {
        if first.is_some() {
            to.reserve_capacity(1);
        }
        Self {
            from,
            to,
            piece: first,
        }
    }

    /// One step: true when there is no further one.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Stopped>> {
        if self.to.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Stopped));
        }
        if self.piece.is_some() {
            return self.poll_send(cx);
        }
        let frame = match ready!(Pin::new(&mut self.from).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            None if self.from.is_end_stream() => {
                let ended = self.to.send_data(Bytes::new(), true);
                return Poll::Ready(ended.map(|()| true).map_err(|_| Stopped));
            }
            // Half an upload is no upload.
            Some(Err(_)) | None => {
                self.to.send_reset(Reason::CANCEL);
                return Poll::Ready(Err(Stopped));
            }
        };
        Poll::Ready(match frame.into_data() {
            // The end often comes with one, and needs no room at the worker.
            Ok(piece) if piece.is_empty() => Ok(false),
            Ok(piece) => {
                self.to.reserve_capacity(1); // sending asks for the rest
                self.piece = Some(piece);
                Ok(false)
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    let ended = self.to.send_trailers(trailers);
                    ended.map(|()| true).map_err(|_| Stopped)
                }
                Err(_) => Ok(false),
            },
        })
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Stopped>> {
        while self.to.capacity() == 0 {
            match ready!(self.to.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Stopped)),
            }
        }
        let is_last = self.from.is_end_stream();
        let piece = self.piece.take().unwrap_or_default();
        let sent = self.to.send_data(piece, is_last);
        Poll::Ready(sent.map(|()| is_last).map_err(|_| Stopped))
    }
}

/// Nobody wants the rest. Who has the answer knows why.
struct Stopped;

impl Future for Pump {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(self.poll_next(cx)) {
                Ok(false) => {}
                Ok(true) | Err(Stopped) => return Poll::Ready(()),
            }
        }
    }
}
