//! How a worker comes to its end.

use std::time::Duration;

use par_model::control::EndCause;
use tokio::signal::unix::{SignalKind, signal};
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

/// Waits for the word to end. A signal that the supervisor did not send may come from the agent itself: it is no
/// request of ours, and is told as what it was.
pub(crate) async fn told_to_end(ending: &mut watch::Receiver<Ending>) -> Told {
    tokio::select! {
        within = by_supervisor(ending) => Told { within, cause: EndCause::Asked },
        cause = by_signal() => Told { within: SIGNAL_DRAIN, cause },
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

async fn by_signal() -> EndCause {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => terminate.recv().await,
        Err(error) => {
            warn!(%error, "signals are not heard");
            std::future::pending().await
        }
    };
    let signal = SignalKind::terminate().as_raw_value();
    EndCause::Signal {
        signal,
        name: par_sandbox::signal_name(signal),
    }
}
