//! A connection to the outside whose bytes are counted, and that is cut when nothing has moved for long.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use crate::figures::Figures;

/// Longer than any server thinks about an answer.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

pub(crate) struct Metered<S> {
    stream: S,
    figures: Rc<Figures>,
    moved: Rc<Cell<Instant>>,
}

/// When something moved last.
#[derive(Clone)]
pub(crate) struct Silence(Rc<Cell<Instant>>);

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, figures: Rc<Figures>) -> (Self, Silence) {
        let moved = Rc::new(Cell::new(Instant::now()));
        let silence = Silence(Rc::clone(&moved));
        let metered = Self {
            stream,
            figures,
            moved,
        };
        (metered, silence)
    }
}

impl Silence {
    /// Ends when it has lasted too long.
    pub(crate) async fn is_too_long(&self) {
        loop {
            let moved = self.0.get();
            sleep_until(moved + LONGEST_SILENCE).await;
            if self.0.get() == moved {
                return;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.moved.set(Instant::now());
        self.figures.received(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.moved.set(Instant::now());
        self.figures.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.moved.set(Instant::now());
        self.figures.sent(written);
        Poll::Ready(Ok(written))
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
