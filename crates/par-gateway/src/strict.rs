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
    /// What hyper still has to read after a refusal.
    poison: Option<&'static [u8]>,
    pulse: Arc<Pulse>,
}

impl<S> Strict<S> {
    pub(crate) fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self {
            stream,
            framing: Framing::default(),
            poison: None,
            pulse,
        }
    }

    /// hyper sees what was right, then what it must refuse.
    fn refuse(&mut self, buf: &mut ReadBuf<'_>, from: usize, found: &Ambiguous) -> io::Result<()> {
        self.poison = Some(&[]);
        if !found.in_head {
            let reason = "the body is not framed as HTTP";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        buf.set_filled(from + found.at);
        self.give_poison(buf, POISON);
        Ok(())
    }

    /// Nothing is left to give at the end of the stream.
    fn give_poison(&mut self, buf: &mut ReadBuf<'_>, poison: &'static [u8]) {
        let (now, later) = poison.split_at(buf.remaining().min(poison.len()));
        buf.put_slice(now);
        self.poison = Some(later);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(poison) = this.poison {
            this.give_poison(buf, poison);
            return Poll::Ready(Ok(()));
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
