//! Waits until it is known what became of a release.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use par_lifecycle::{Release, ReplicaStatus};
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
    /// The supervisor ended, or another process went on, before it was known.
    Unknown,
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
        let progress = known.progress();
        if progress.is_some() && progress != last.as_ref() {
            last = progress.cloned();
            on_progress(last.as_deref().unwrap_or_default());
        }
        if snapshots.changed().await.is_err() {
            return Outcome::Unknown;
        }
    }
}

fn decided(known: &Known, release: Release) -> Option<Outcome> {
    let status = &known.status;
    if let Some(incoming) = status.incoming.as_ref().filter(|it| it.release == release) {
        return incoming.live.then(|| ready(&incoming.replicas))?;
    }
    if known.release() == release {
        return of_current(known);
    }
    match &status.failed {
        Some((failed, cause)) if *failed == release => Some(let_go(cause)),
        Some((failed, _)) if *failed > release => Some(Outcome::Withdrawn),
        // Another one has come since.
        _ if known.release() > release => Some(Outcome::Withdrawn),
        _ => None,
    }
}

/// Of a release that did not take the place of the one before it.
fn let_go(cause: &EndCause) -> Outcome {
    match cause {
        EndCause::Superseded | EndCause::Abandoned | EndCause::Asked => Outcome::Withdrawn,
        cause => Outcome::Failed(cause.clone()),
    }
}

fn of_current(known: &Known) -> Option<Outcome> {
    let replicas = &known.status.replicas;
    let is = |state| move |it: &ReplicaStatus| it.state == state;
    if replicas.iter().all(is(ProcessState::Running)) {
        return ready(replicas);
    }
    let fallen = replicas
        .iter()
        .filter(|it| matches!(it.state, ProcessState::Failed | ProcessState::Crashed));
    if let Some(cause) = fallen.filter_map(|it| it.error.clone()).next() {
        return Some(Outcome::Failed(cause));
    }
    // One that was not ready in time is being ended for that.
    let undecided = |it: &ReplicaStatus| {
        it.state == ProcessState::Starting
            || it.state == ProcessState::Stopping && it.error.is_some()
    };
    match replicas.iter().any(undecided) {
        true => None,
        false => Some(Outcome::Withdrawn),
    }
}

fn ready(replicas: &[ReplicaStatus]) -> Option<Outcome> {
    let incarnation = replicas.iter().find_map(|it| it.incarnation)?;
    Some(Outcome::Ready {
        port: incarnation.port,
        grpc_port: incarnation.grpc_port,
    })
}

/// Waits until a replica of a release has been given its ports, or will not be. Returns the HTTP port.
pub(crate) async fn port_of(
    control: &Control,
    agent: &AgentId,
    release: Release,
) -> Result<u16, Option<EndCause>> {
    let mut snapshots = control.snapshots.clone();
    loop {
        let known = snapshots.borrow_and_update().agents.get(agent).cloned();
        match known.map(|known| port_in(&known, release)) {
            None => return Err(None),
            Some(Some(port)) => return port,
            Some(None) => {}
        }
        if snapshots.changed().await.is_err() {
            return Err(None);
        }
    }
}

fn port_in(known: &Known, release: Release) -> Option<Result<u16, Option<EndCause>>> {
    let mut of_it = known
        .status
        .all_replicas()
        .filter(|replica| replica.release == release);
    let Some(replica) = of_it.next() else {
        let failed = known.status.failed.as_ref();
        let failed = failed.filter(|(failed, _)| *failed == release);
        return match failed {
            Some((_, cause)) => Some(Err(Some(cause.clone()))),
            None => (known.release() > release).then_some(Err(None)),
        };
    };
    match replica.incarnation {
        Some(incarnation) if incarnation.pid.is_some() => Some(Ok(incarnation.port)),
        Some(_) => None,
        None => Some(Err(replica.error.clone())),
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
            .is_some_and(|known| known.lives())
    };
    let ended = snapshots.wait_for(|snapshot| !lives(snapshot));
    match tokio::time::timeout_at(give_up.into(), ended).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(StillAlive::NotKnown(agent.clone())),
        Err(_) => Err(StillAlive::Stopping(agent.clone())),
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StillAlive {
    #[error("agent `{0}` is still stopping")]
    Stopping(AgentId),
    #[error(
        "agent `{0}` was still stopping when this supervisor ended, or another went on; ask again"
    )]
    NotKnown(AgentId),
}

impl From<StillAlive> for ApiError {
    fn from(alive: StillAlive) -> Self {
        let status = match alive {
            StillAlive::Stopping(_) => StatusCode::GATEWAY_TIMEOUT,
            StillAlive::NotKnown(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, alive.to_string())
    }
}

#[cfg(test)]
mod tests {
    use par_lifecycle::{AgentStatus, Desired, Incarnation, Route, Wanted};
    use par_model::ReplicaId;
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::catalog::Made;
    use crate::keeper::Keeper;
    use crate::logs::LogStore;

    const RELEASE: Release = Release(1);

    fn stopping() -> ReplicaStatus {
        ReplicaStatus {
            slot: 0,
            release: RELEASE,
            state: ProcessState::Stopping,
            idle: None,
            incarnation: Some(Incarnation {
                replica: ReplicaId(1),
                slot: 0,
                release: RELEASE,
                port: 1,
                grpc_port: 2,
                pid: None,
            }),
            ready_since: None,
            restart_count: 0,
            restart_at: None,
            error: None,
        }
    }

    fn known() -> Known {
        Known {
            status: AgentStatus {
                desired: Desired {
                    wanted: Wanted::Stopped,
                    replicas: 1,
                    current: RELEASE,
                    canary: None,
                },
                route: Route::Down,
                live: true,
                replicas: vec![stopping()],
                incoming: None,
                leaving: vec![],
                failed: None,
            },
            made: Arc::new(Made {
                agent: agent(),
                package_id: "a@1".to_owned(),
                digest: "0".repeat(64).parse().expect("a digest"),
                package: "/".into(),
                env: Default::default(),
                secrets: Default::default(),
                options: Default::default(),
                note: None,
                unusable: None,
            }),
            told: Default::default(),
        }
    }

    fn agent() -> AgentId {
        "a".parse().expect("a valid id")
    }

    #[tokio::test]
    async fn an_agent_that_still_lives_when_the_wait_is_over_is_not_said_to_have_ended() {
        let mut snapshot = Snapshot::default();
        snapshot.agents.insert(agent(), Arc::new(known()));
        let (snapshots_in, snapshots) = watch::channel(Arc::new(snapshot));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = par_store::Store::open(folder.path(), Default::default()).expect("a store");
        let (keeper, _writing) = Keeper::new(Arc::new(store));
        let logs = Arc::new(LogStore::default());
        let control = Control::new(
            mpsc::channel(1).0,
            snapshots,
            logs,
            keeper,
            watch::channel(Default::default()).1,
        );
        let waited = end_of(&control, &agent(), Instant::now()).await;
        let alive = waited.expect_err("it lives");
        assert_eq!(alive.to_string(), "agent `a` is still stopping");
        assert_eq!(ApiError::from(alive).status, StatusCode::GATEWAY_TIMEOUT);
        snapshots_in.send_replace(Arc::default());
        let waited = end_of(&control, &agent(), Instant::now()).await;
        assert!(waited.is_ok());
    }
}
