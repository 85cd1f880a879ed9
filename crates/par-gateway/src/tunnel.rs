//! Two streams that have left HTTP (WebSocket): bytes are copied both ways, and each end is passed on.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::backend::InFlight;

/// Bytes on their way, for each direction.
const BUFFER: usize = 16 << 10;

/// How often a tunnel is looked at before it counts as silent.
const LOOKS: u32 = 4;

pub(crate) struct Tunnel {
    caller: OnUpgrade,
    agent: UnixStream,
    /// What the agent said before we stopped to read HTTP.
    first_words: Bytes,
    _in_flight: InFlight,
}

impl Tunnel {
    pub(crate) fn new(caller: OnUpgrade, agent: (UnixStream, Bytes), in_flight: InFlight) -> Self {
        let (agent, first_words) = agent;
        Self {
            caller,
            agent,
            first_words,
            _in_flight: in_flight,
        }
    }

    /// Runs until both directions have ended, one is broken, or both were silent for `longest_silence`.
    pub(crate) async fn run(mut self, longest_silence: Duration) -> io::Result<()> {
        let caller = self.caller.await.map_err(io::Error::other)?;
        let moved = Rc::new(Cell::new(false));
        let mut caller = Noticed {
            stream: TokioIo::new(caller),
            moved: Rc::clone(&moved),
        };
        let copied = async {
            caller.write_all(&self.first_words).await?;
            copy_bidirectional_with_sizes(&mut caller, &mut self.agent, BUFFER, BUFFER).await?;
            Ok(())
        };
        tokio::select! {
            copied = copied => copied,
            () = silence(&moved, longest_silence) => Err(ErrorKind::TimedOut.into()),
        }
    }
}

/// Looked at a few times within the longest that is allowed, so that no byte sets a timer.
async fn silence(moved: &Cell<bool>, longest: Duration) {
    let mut silent_looks = 0;
    while silent_looks < LOOKS {
        sleep(longest / LOOKS).await;
        silent_looks = if moved.take() { 0 } else { silent_looks + 1 };
    }
}

/// All that passes, either way, passes through the caller's stream.
struct Noticed<S> {
    stream: S,
    moved: Rc<Cell<bool>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noticed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.moved.set(self.moved.get() | read.is_ready());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noticed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.moved.set(self.moved.get() | written.is_ready());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
