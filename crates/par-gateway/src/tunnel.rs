//! Two streams that have left HTTP (WebSocket): bytes are copied both ways, and each end is passed on.

use std::io;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::UnixStream;

use crate::backend::InFlight;

/// Bytes on their way, for each direction.
const BUFFER: usize = 16 << 10;

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

    /// Runs until both directions have ended, or one is broken.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let caller = self.caller.await.map_err(io::Error::other)?;
        let mut caller = TokioIo::new(caller);
        caller.write_all(&self.first_words).await?;
        copy_bidirectional_with_sizes(&mut caller, &mut self.agent, BUFFER, BUFFER).await?;
        Ok(())
    }
}
