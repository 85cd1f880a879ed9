//! Stop, start, restart and remove agents that are known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use par_lifecycle::{Beside, Command, Release};
use par_model::api::{Detail, Done, SpawnRequest, Spawned};
use par_model::{AgentId, ReplicaId};

use super::outcome::{StillAlive, end_of};
use super::refusal::ApiError;
use super::spawn::{made_from, start as start_release, started};
use super::{Api, Shared};
use crate::restore;
use crate::snapshot::Known;

/// Longer than any drain and grace together: a stop always ends.
const LONGEST_STOP: Duration = Duration::from_secs(60);

/// Withdraws an agent's route, lets its calls finish, and ends it. Answers when it has ended.
#[utoipa::path(
    post, path = "/supervisor/stop/{process_id}",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    responses(
        (status = 200, body = Done),
        (status = 404, description = "Unknown", body = Detail),
        (status = 504, description = "It is still stopping", body = Detail),
    )
)]
pub(super) async fn stop(
    State(api): Shared,
    Path(word): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let (agent, _) = find(&api, &word)?;
    api.control.command(Command::Stop(agent.clone())).await?;
    end_of(&api.control, &agent, Instant::now() + LONGEST_STOP).await?;
    Ok(Json(Done::success()))
}

/// Starts an agent that is stopped, failed or crashed.
#[utoipa::path(
    post, path = "/supervisor/start/{process_id}",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    responses(
        (status = 200, body = Spawned),
        (status = 404, description = "Unknown", body = Detail),
        (status = 409, description = "It already runs", body = Detail),
    )
)]
pub(super) async fn start(
    State(api): Shared,
    Path(word): Path<String>,
) -> Result<Json<Spawned>, ApiError> {
    let (agent, release) = find(&api, &word)?;
    look_again(&api, &agent, release).await;
    api.control.command(Command::Start(agent.clone())).await?;
    started(&api, agent, release, vec![]).await.map(Json)
}

/// Stops an agent and starts it again. With a body it gets that package and those settings, and need not be known
/// before.
#[utoipa::path(
    post, path = "/supervisor/restart/{process_id}",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    request_body = Option<SpawnRequest>,
    responses(
        (status = 200, body = Spawned),
        (status = 400, description = "The package was refused", body = Detail),
        (status = 404, description = "Unknown", body = Detail),
        (status = 422, description = "A field is missing or wrong", body = Detail),
        (status = 504, description = "It is still stopping", body = Detail),
    )
)]
pub(super) async fn restart(
    State(api): Shared,
    Path(word): Path<String>,
    body: Bytes,
) -> Result<Json<Spawned>, ApiError> {
    if !body.trim_ascii().is_empty() {
        let made = made_from(&api, &body, Some(&word)).await?;
        return start_release(&api, made, Beside::Roll).await.map(Json);
    }
    let (agent, release) = find(&api, &word)?;
    look_again(&api, &agent, release).await;
    let before = living(&api, &agent);
    api.control.command(Command::Restart(agent.clone())).await?;
    let gone = |known: &Arc<Known>| {
        let mut living = known.status.replicas.iter().filter_map(|it| it.incarnation);
        living.all(|it| !before.contains(&it.replica))
    };
    let mut snapshots = api.control.snapshots.clone();
    let ended = snapshots.wait_for(|snapshot| snapshot.agents.get(&agent).is_none_or(gone));
    if tokio::time::timeout(LONGEST_STOP, ended).await.is_err() {
        return Err(StillAlive::Stopping(agent).into());
    }
    started(&api, agent, release, vec![]).await.map(Json)
}

/// Stops an agent and forgets it, with its workspace and its logs.
#[utoipa::path(
    delete, path = "/supervisor/agents/{process_id}",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    responses(
        (status = 200, body = Done),
        (status = 404, description = "Unknown", body = Detail),
        (status = 504, description = "It is still stopping", body = Detail),
    )
)]
pub(super) async fn remove(
    State(api): Shared,
    Path(word): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let (agent, _) = find(&api, &word)?;
    api.control.command(Command::Remove(agent.clone())).await?;
    end_of(&api.control, &agent, Instant::now() + LONGEST_STOP).await?;
    Ok(Json(Done::success()))
}

/// What kept a release from being started may have been put right: who starts it again has been told how.
async fn look_again(api: &Api, agent: &AgentId, release: Release) {
    let snapshot = api.control.snapshot();
    let known = snapshot.agents.get(agent);
    if known.is_none_or(|known| known.made.unusable.is_none()) {
        return;
    }
    // What cannot be read now stays as it was, with its reason.
    if let Ok(Some(kept)) = api.control.keeper.agent(agent).await
        && let Some(kept) = kept.release(release.0)
    {
        let made = restore::made(agent, kept);
        api.control.remade(made, release).await;
    }
}

fn living(api: &Api, agent: &AgentId) -> Vec<ReplicaId> {
    let snapshot = api.control.snapshot();
    let known = snapshot.agents.get(agent);
    let replicas = known.iter().flat_map(|known| &known.status.replicas);
    replicas
        .filter_map(|it| Some(it.incarnation?.replica))
        .collect()
}

pub(super) fn find(api: &Api, word: &str) -> Result<(AgentId, Release), ApiError> {
    let snapshot = api.control.snapshot();
    let found = snapshot
        .find(word)
        .map(|(agent, known)| (agent.clone(), known.release()));
    let shown: String = word.chars().take(80).collect();
    found.ok_or_else(|| ApiError::not_found(format!("Process {shown} not found")))
}
