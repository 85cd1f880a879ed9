//! Waits until it is known what became of a release.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use par_lifecycle::Release;
use par_model::control::EndCause;
use par_model::{AgentId, ProcessState};

use super::refusal::ApiError;
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
pub(crate) async fn end_of(
    control: &Control,
    agent: &AgentId,
    give_up: Instant,
) -> Result<(), StillAlive> {
    let mut snapshots = control.snapshots.clone();
    let lives = |snapshot: &Arc<Snapshot>| {
        snapshot
            .agents
            .get(agent)
            .is_some_and(|known| known.status.incarnation.is_some())
    };
    let ended = snapshots.wait_for(|snapshot| !lives(snapshot));
    match tokio::time::timeout_at(give_up.into(), ended).await {
        // Without a driver nothing lives any more.
        Ok(Ok(_) | Err(_)) => Ok(()),
        Err(_) => Err(StillAlive(agent.clone())),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("agent `{0}` is still stopping")]
pub(crate) struct StillAlive(pub(super) AgentId);

impl From<StillAlive> for ApiError {
    fn from(alive: StillAlive) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, alive.to_string())
    }
}

#[cfg(test)]
mod tests {
    use par_lifecycle::{AgentStatus, Incarnation};
    use par_model::ReplicaId;
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::catalog::Made;
    use crate::logs::LogStore;

    fn stopping() -> Known {
        let release = Release(1);
        Known {
            status: AgentStatus {
                state: ProcessState::Stopping,
                release,
                incarnation: Some(Incarnation {
                    replica: ReplicaId(1),
                    release,
                    port: 1,
                    grpc_port: 2,
                    pid: None,
                }),
                ready_since: None,
                restart_count: 0,
                restart_at: None,
                error: None,
            },
            made: Arc::new(Made {
                agent: agent(),
                package_id: "a@1".to_owned(),
                digest: "0".repeat(64).parse().expect("a digest"),
                package: "/".into(),
                env: std::collections::BTreeMap::new(),
                options: par_model::api::SpawnOptions::default(),
            }),
            progress: None,
            agent_pid: None,
            limits: Default::default(),
        }
    }

    fn agent() -> AgentId {
        "a".parse().expect("a valid id")
    }

    #[tokio::test]
    async fn an_agent_that_still_lives_when_the_wait_is_over_is_not_said_to_have_ended() {
        let mut snapshot = Snapshot::default();
        snapshot.agents.insert(agent(), stopping());
        let (snapshots_in, snapshots) = watch::channel(Arc::new(snapshot));
        let control = Control::new(mpsc::channel(1).0, snapshots, Arc::new(LogStore::default()));
        let waited = end_of(&control, &agent(), Instant::now()).await;
        let alive = waited.expect_err("it lives");
        assert_eq!(alive.to_string(), "agent `a` is still stopping");
        assert_eq!(ApiError::from(alive).status, StatusCode::GATEWAY_TIMEOUT);
        snapshots_in.send_replace(Arc::default());
        let waited = end_of(&control, &agent(), Instant::now()).await;
        assert!(waited.is_ok());
    }
}
