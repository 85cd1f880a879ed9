//! Waits until it is known what became of a release.

use std::sync::Arc;
use std::time::Instant;

use par_lifecycle::Release;
use par_model::control::EndCause;
use par_model::{AgentId, ProcessState};

use crate::message::Control;
use crate::snapshot::{Known, Snapshot};

/// What became of a release.
pub(crate) enum Outcome {
    /// It answers on these ports.
    Ready {
        port: u16,
        grpc_port: u16,
    },
    Failed(EndCause),
    /// Stopped, removed or replaced before it was ready.
    Withdrawn,
}

/// Waits for the outcome; `on_progress` hears what the agent is busy with meanwhile.
pub(crate) async fn outcome_of(
    control: &Control,
    agent: &AgentId,
    release: Release,
    mut on_progress: impl FnMut(&str),
) -> Outcome {
    let mut snapshots = control.snapshots.clone();
    let mut last = None;
    loop {
        let known = snapshots.borrow_and_update().agents.get(agent).cloned();
        let Some(known) = known else {
            return Outcome::Withdrawn;
        };
        if let Some(outcome) = decided(&known, release) {
            return outcome;
        }
        if known.progress.is_some() && known.progress != last {
            last.clone_from(&known.progress);
            on_progress(last.as_deref().unwrap_or_default());
        }
        if snapshots.changed().await.is_err() {
            return Outcome::Withdrawn;
        }
    }
}

fn decided(known: &Known, release: Release) -> Option<Outcome> {
    let status = &known.status;
    if status.release > release {
        return Some(Outcome::Withdrawn);
    }
    if status.release < release {
        return None; // The one before is still ending.
    }
    match status.state {
        ProcessState::Running => status.incarnation.map(|it| Outcome::Ready {
            port: it.port,
            grpc_port: it.grpc_port,
        }),
        ProcessState::Starting => None,
        ProcessState::Failed | ProcessState::Crashed => {
            Some(Outcome::Failed(status.error.clone()?))
        }
        // It was not ready in time, and is being ended for that.
        ProcessState::Stopping if status.error.is_some() => None,
        ProcessState::Stopping | ProcessState::Stopped => Some(Outcome::Withdrawn),
    }
}

/// Waits until an agent has been given its ports, or will not be. Returns the HTTP port.
pub(crate) async fn port_of(
    control: &Control,
    agent: &AgentId,
    release: Release,
) -> Result<u16, Option<EndCause>> {
    let mut snapshots = control.snapshots.clone();
    let decided = |snapshot: &Arc<Snapshot>| match snapshot.agents.get(agent) {
        None => Some(Err(None)),
        Some(known) if known.status.release < release => None,
        Some(known) => match known.status.incarnation {
            Some(incarnation) if incarnation.pid.is_some() => Some(Ok(incarnation.port)),
            Some(_) => None,
            None => Some(Err(known.status.error.clone())),
        },
    };
    loop {
        if let Some(port) = decided(&snapshots.borrow_and_update()) {
            return port;
        }
        if snapshots.changed().await.is_err() {
            return Err(None);
        }
    }
}

/// Waits until nothing of an agent lives, at most until `give_up`.
pub(crate) async fn end_of(control: &Control, agent: &AgentId, give_up: Instant) {
    let mut snapshots = control.snapshots.clone();
    let lives = |snapshot: &Arc<Snapshot>| {
        snapshot
            .agents
            .get(agent)
            .is_some_and(|known| known.status.incarnation.is_some())
    };
    let ended = snapshots.wait_for(|snapshot| !lives(snapshot));
    // Too late: whoever asked sees `stopping` in the status.
    let _either_way = tokio::time::timeout_at(give_up.into(), ended).await;
}
