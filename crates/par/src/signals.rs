//! Ctrl-C, and what `kill` sends, for commands that have something to put in order before they end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Interrupt,
    Terminate,
}

impl Signals {
    /// From now on neither ends this process.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: None,
        })
    }

    /// For who lives on a terminal: its end is one more reason to end. Nobody else may miss that `nohup` wants it ignored.
    pub(crate) fn listen_to_hangup(&mut self) -> io::Result<()> {
        self.hangup = Some(signal(SignalKind::hangup())?);
        Ok(())
    }

    pub(crate) async fn next(&mut self) -> Heard {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Heard::Interrupt,
            _ = self.terminate.recv() => Heard::Terminate,
            _ = hangup => Heard::Terminate,
        }
    }

    /// Waits for this one, and passes the other over.
    pub(crate) async fn heard(&mut self, wanted: Heard) {
        while self.next().await != wanted {}
    }
}
