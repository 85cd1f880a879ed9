//! How a worker comes to its end.

use std::time::Duration;

use par_model::control::EndCause;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::warn;

/// Whether, and how, the supervisor wants the worker to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    No,
    /// Finish the calls in flight first.
    Drain {
        within: Duration,
    },
    /// Nobody is left to serve for.
    Now,
}

/// The word to end.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// How long calls in flight may take.
    pub(crate) within: Duration,
    pub(crate) cause: EndCause,
}

/// Drain of a worker that was told to end by a signal.
const SIGNAL_DRAIN: Duration = Duration::from_secs(10);

/// Where the word to end comes from: the supervisor, or whoever sends a signal.
pub(crate) struct Word {
    supervisor: watch::Receiver<Ending>,
    /// Heard from the first moment on: one that comes while nobody waits is not lost.
    terminate: Option<Signal>,
}

impl Word {
    pub(crate) fn listen(supervisor: watch::Receiver<Ending>) -> Self {
        let terminate = signal(SignalKind::terminate())
            .inspect_err(|error| warn!(%error, "signals are not heard"))
            .ok();
        Self {
            supervisor,
            terminate,
        }
    }

    /// Waits for the word to end. A signal that the supervisor did not send may come from the agent itself: it is no
    /// request of ours, and is told as what it was.
    pub(crate) async fn told(&mut self) -> Told {
        tokio::select! {
            within = by_supervisor(&mut self.supervisor) => Told { within, cause: EndCause::Asked },
            cause = by_signal(self.terminate.as_mut()) => Told { within: SIGNAL_DRAIN, cause },
        }
    }
}

impl Word {
    /// Ends after `within`, or when the supervisor is gone: then nobody is left to be patient for.
    pub(crate) async fn patience(&mut self, within: Duration) {
        let gone = async {
            let now = self
                .supervisor
                .wait_for(|ending| *ending == Ending::Now)
                .await;
            drop(now);
        };
        // Either way patience is over.
        let _gone_or_elapsed = tokio::time::timeout(within, gone).await;
    }
}

async fn by_supervisor(ending: &mut watch::Receiver<Ending>) -> Duration {
    // A sender that is gone is a supervisor that is gone.
    let told = ending.wait_for(|ending| *ending != Ending::No).await;
    match told.map_or(Ending::Now, |told| *told) {
        Ending::Drain { within } => within,
        Ending::No | Ending::Now => Duration::ZERO,
    }
}

async fn by_signal(terminate: Option<&mut Signal>) -> EndCause {
    match terminate {
        Some(terminate) => terminate.recv().await,
        None => std::future::pending().await,
    };
    let signal = SignalKind::terminate().as_raw_value();
    EndCause::Signal {
        signal,
        name: par_sandbox::signal_name(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Number, getpid, kill_process};

    #[tokio::test]
    async fn a_signal_that_comes_while_nobody_waits_is_not_lost() {
        let (_supervisor, ending) = watch::channel(Ending::No);
        let mut word = Word::listen(ending);
        kill_process(getpid(), Number::TERM).expect("we may signal ourselves");
        let told = word.told().await;
        assert_eq!(told.cause.to_string(), "ended by SIGTERM");
    }

    #[tokio::test]
    async fn a_supervisor_that_is_gone_wants_the_end_now() {
        let (supervisor, ending) = watch::channel(Ending::No);
        let mut word = Word::listen(ending);
        drop(supervisor);
        let told = word.told().await;
        assert_eq!((told.within, told.cause), (Duration::ZERO, EndCause::Asked));
    }
}
