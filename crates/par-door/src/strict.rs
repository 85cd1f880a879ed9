//! A caller's stream that ends where its messages become ambiguous.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use par_model::CallError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::{Ambiguous, Framing};
use crate::pulse::Pulse;
use crate::words::whole_answer;

/// Makes any head one that hyper answers with 400: no head may hold a zero byte.
const POISON: &[u8] = b"\0\r\n\r\n";

pub struct Strict<S> {
    stream: S,
    framing: Framing,
    refused: Option<Refused>,
    pulse: Arc<Pulse>,
}

/// What hyper has to read after what was right.
enum Refused {
    /// What is left of the poison, then the end: hyper answers in its turn, after the calls before.
    Head(&'static [u8]),
    /// What is left of our own answer, then an error: nothing else is to be written.
    Answered(Vec<u8>),
    /// An error in its body: the call is answered with 400 if it was not answered yet.
    Body,
}

impl<S> Strict<S> {
    pub fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self {
            stream,
            framing: Framing::default(),
            refused: None,
            pulse,
        }
    }

    /// hyper sees what was right, then what it must refuse.
    fn refuse(&mut self, buf: &mut ReadBuf<'_>, from: usize, found: &Ambiguous) {
        buf.set_filled(from + found.at);
        self.refused = Some(match found.in_head {
            false => Refused::Body,
            true if self.pulse.lets_us_answer() => Refused::Answered(whole_answer(&ambiguous())),
            true => Refused::Head(POISON),
        });
    }
}

impl<S: AsyncWrite + Unpin> Strict<S> {
    fn go_on_refusing(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.refused {
            Some(Refused::Head(poison)) => {
                let (now, later) = poison.split_at(buf.remaining().min(poison.len()));
                buf.put_slice(now);
                *poison = later;
                return Poll::Ready(Ok(()));
            }
            Some(Refused::Answered(text)) => {
                while !text.is_empty() {
                    let count = ready!(Pin::new(&mut self.stream).poll_write(cx, text))?;
                    text.drain(..count);
                }
            }
            Some(Refused::Body) | None => {}
        }
        let reason = "what was sent is not framed as HTTP";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)))
    }
}

fn ambiguous() -> CallError {
    CallError::BadRequest("the request is not framed as HTTP".to_owned())
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.refused.is_some() {
            return this.go_on_refusing(cx, buf);
        }
        let from = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.pulse.hear(buf.filled().len() - from);
        let framed = this.framing.feed(&buf.filled()[from..]);
        if this.framing.take_whole_head() {
            this.pulse.on_call.store(true, Ordering::Relaxed);
        }
        match framed {
            Ok(()) => Poll::Ready(Ok(())),
            Err(found) => {
                this.refuse(buf, from, &found);
                // No bytes at all would be the end of the stream.
                let seen_some = buf.filled().len() > from;
                if seen_some && matches!(this.refused, Some(Refused::Body)) {
                    return Poll::Ready(Ok(()));
                }
                this.go_on_refusing(cx, buf)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.pulse
            .blocked
            .store(written.is_pending(), Ordering::Relaxed);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.pulse
            .blocked
            .store(written.is_pending(), Ordering::Relaxed);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
