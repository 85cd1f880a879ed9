//! A caller's stream that ends where its messages become ambiguous.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::{Ambiguous, Framing};
use crate::watch::Pulse;

/// Makes any head one that hyper answers with 400: no head may hold a zero byte.
const POISON: &[u8] = b"\0\r\n\r\n";

pub(crate) struct Strict<S> {
    stream: S,
    framing: Framing,
    refused: Option<Refused>,
    pulse: Arc<Pulse>,
}

/// What hyper has to read after what was right.
#[derive(Clone, Copy)]
enum Refused {
    /// What is left of the poison, then the end.
    Head(&'static [u8]),
    /// An error in its body: the call is answered with 400 if it was not answered yet.
    Body,
}

impl<S> Strict<S> {
    pub(crate) fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self {
            stream,
            framing: Framing::default(),
            refused: None,
            pulse,
        }
    }

    /// hyper sees what was right, then what it must refuse.
    fn refuse(&mut self, buf: &mut ReadBuf<'_>, from: usize, found: &Ambiguous) -> io::Result<()> {
        buf.set_filled(from + found.at);
        if found.in_head {
            return self.go_on_refusing(buf, Refused::Head(POISON));
        }
        self.refused = Some(Refused::Body);
        // No bytes at all would be the end of the stream.
        let seen_some = found.at > 0;
        seen_some.then_some(()).ok_or_else(broken_body)
    }

    fn go_on_refusing(&mut self, buf: &mut ReadBuf<'_>, refused: Refused) -> io::Result<()> {
        let Refused::Head(poison) = refused else {
            return Err(broken_body());
        };
        let (now, later) = poison.split_at(buf.remaining().min(poison.len()));
        buf.put_slice(now);
        self.refused = Some(Refused::Head(later));
        Ok(())
    }
}

fn broken_body() -> io::Error {
    let reason = "the body is not framed as HTTP";
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(refused) = this.refused {
            return Poll::Ready(this.go_on_refusing(buf, refused));
        }
        let from = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.pulse.heard.store(true, Ordering::Relaxed);
        match this.framing.feed(&buf.filled()[from..]) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(found) => Poll::Ready(this.refuse(buf, from, &found)),
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
