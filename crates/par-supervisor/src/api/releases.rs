//! The releases of an agent: which there were, and which of them takes the calls.

use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use par_lifecycle::{Beside, Command, Release};
use par_model::AgentId;
use par_model::api::{Deployed, Detail, Done, ReleaseInfo, Rollback, Scale};
use par_model::event::{EventKind, NewEvent};
use par_store::{KeptAgent, KeptRelease, Outcome as Kept, Secrets};

use super::lifecycle::find;
use super::outcome::{Outcome, outcome_of};
use super::refusal::ApiError;
use super::spawn::field_by_field;
use super::{Api, Shared};
use crate::bounds::MOST_REPLICAS;
use crate::events::happening;
use crate::restore;

/// The newest releases of an agent, newest first.
#[utoipa::path(
    get, path = "/supervisor/agents/{process_id}/releases",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    responses((status = 200, body = Vec<ReleaseInfo>), (status = 404, description = "Unknown", body = Detail))
)]
pub(super) async fn list(
    State(api): Shared,
    Path(word): Path<String>,
) -> Result<Json<Vec<ReleaseInfo>>, ApiError> {
    let (agent, _) = find(&api, &word)?;
    let kept = kept(&api, &agent).await?;
    let releases = kept.releases.iter().rev();
    Ok(Json(releases.map(|it| described(&kept, it)).collect()))
}

/// Lets a canary go; or brings an earlier release back, as a new release beside the current one. Answers when it takes
/// the calls.
#[utoipa::path(
    post, path = "/supervisor/agents/{process_id}/rollback",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    request_body = Option<Rollback>,
    responses(
        (status = 200, body = Deployed),
        (status = 404, description = "Unknown agent or release", body = Detail),
        (status = 409, description = "There is nothing to go back to", body = Detail),
        (status = 422, description = "It did not start", body = Detail),
    )
)]
pub(super) async fn rollback(
    State(api): Shared,
    Path(word): Path<String>,
    body: Bytes,
) -> Result<Json<Deployed>, ApiError> {
    let wanted: Rollback = match body.trim_ascii() {
        [] => Rollback::default(),
        body => field_by_field(body)?,
    };
    let (agent, current) = find(&api, &word)?;
    let kept = kept(&api, &agent).await?;
    if wanted.release.is_none() && has_canary(&api, &agent) {
        api.control.command(Command::Abandon(agent.clone())).await?;
        return answered(&api, &agent, current, &kept, current.0).await;
    }
    let number = match wanted.release {
        Some(number) => number,
        None => before(&kept)?,
    };
    let release = kept.release(number).ok_or_else(|| {
        let words =
            format!("agent `{agent}` has no release {number}; `par releases {agent}` lists them");
        ApiError::not_found(words)
    })?;
    let mut made = restore::made(&agent, release);
    if let Some(reason) = made.unusable {
        return Err(ApiError::new(StatusCode::CONFLICT, reason));
    }
    made.note = Some(format!("rollback to {number}"));
    let new = api.control.deploy(made, Beside::Roll).await?;
    api.events.note(NewEvent {
        agent: Some(agent.clone()),
        release: Some(new.0),
        reason: Some(format!("to release {number}")),
        ..happening(EventKind::RolledBack)
    });
    answered(&api, &agent, new, &kept, number).await
}

fn has_canary(api: &Api, agent: &AgentId) -> bool {
    let snapshot = api.control.snapshot();
    let known = snapshot.agents.get(agent);
    known.is_some_and(|known| {
        let incoming = known.status.incoming.as_ref();
        incoming.is_some_and(|it| it.canary.is_some())
    })
}

/// The last one that was live before the current one, and is something else.
fn before(kept: &KeptAgent) -> Result<u32, ApiError> {
    let mut earlier = kept.releases.iter().rev().filter(|it| {
        it.number < kept.wish.current && matches!(it.outcome, Kept::Live | Kept::Superseded)
    });
    let current = kept.release(kept.wish.current);
    let differs = |it: &&KeptRelease| {
        current.is_none_or(|current| {
            current.digest != it.digest
                || current.env != it.env
                || current.options != it.options
                || secrets(current) != secrets(it)
        })
    };
    let found = earlier.clone().find(differs).or_else(|| earlier.next());
    let words = || {
        format!(
            "agent `{}` has no earlier release to go back to",
            kept.agent
        )
    };
    let nothing = || ApiError::new(StatusCode::CONFLICT, words());
    Ok(found.ok_or_else(nothing)?.number)
}

/// As they are on disk now; none if they cannot be read.
fn secrets(release: &KeptRelease) -> Option<Secrets> {
    release.secrets.read().ok()
}

/// Gives the canary all calls, and answers when it has them.
#[utoipa::path(
    post, path = "/supervisor/agents/{process_id}/promote",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    responses(
        (status = 200, body = Deployed),
        (status = 404, description = "Unknown", body = Detail),
        (status = 409, description = "There is no canary", body = Detail),
    )
)]
pub(super) async fn promote(
    State(api): Shared,
    Path(word): Path<String>,
) -> Result<Json<Deployed>, ApiError> {
    let (agent, _) = find(&api, &word)?;
    let kept = kept(&api, &agent).await?;
    let snapshot = api.control.snapshot();
    let known = snapshot.agents.get(&agent);
    let canary = known.and_then(|known| Some(known.status.incoming.as_ref()?.release));
    api.control.command(Command::Promote(agent.clone())).await?;
    let release = canary.unwrap_or(Release(kept.wish.current));
    answered(&api, &agent, release, &kept, release.0).await
}

/// So many replicas from now on. Answers at once; the status shows them come and go.
#[utoipa::path(
    post, path = "/supervisor/agents/{process_id}/scale",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    request_body = Scale,
    responses(
        (status = 200, body = Done),
        (status = 404, description = "Unknown", body = Detail),
        (status = 422, description = "Too few or too many", body = Detail),
        (status = 503, description = "No port is free", body = Detail),
    )
)]
pub(super) async fn scale(
    State(api): Shared,
    Path(word): Path<String>,
    body: Bytes,
) -> Result<Json<Done>, ApiError> {
    let Scale { replicas } = field_by_field(&body)?;
    if !(1..=MOST_REPLICAS).contains(&replicas) {
        let words = format!("replicas: {replicas} is not between 1 and {MOST_REPLICAS}");
        return Err(ApiError::wrong_field(words));
    }
    let (agent, _) = find(&api, &word)?;
    api.control.command(Command::Scale(agent, replicas)).await?;
    Ok(Json(Done::success()))
}

async fn kept(api: &Api, agent: &AgentId) -> Result<KeptAgent, ApiError> {
    let read = api.control.keeper.agent(agent).await;
    let words = |reason| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason);
    let gone = || ApiError::not_found(format!("Process {agent} not found"));
    read.map_err(words)?.ok_or_else(gone)
}

/// Waits until `release` takes the calls, and says so; it is made of what `like` was.
async fn answered(
    api: &Api,
    agent: &AgentId,
    release: Release,
    kept: &KeptAgent,
    like: u32,
) -> Result<Json<Deployed>, ApiError> {
    match outcome_of(&api.control, agent, release, |_| {}).await {
        Outcome::Ready { port, grpc_port } => {
            let made = kept.release(like);
            let trouble = api.control.kept().await.err();
            Ok(Json(Deployed {
                agent_id: agent.to_string(),
                process_id: format!("par-{agent}"),
                package_id: made.map_or_else(String::new, |it| it.package_id.clone()),
                package_digest: made.map_or_else(String::new, |it| it.digest.to_string()),
                port,
                grpc_port,
                invoke_path: format!("/agents/{agent}/invoke"),
                release: release.0,
                canary_percent: None,
                warnings: trouble.iter().map(ToString::to_string).collect(),
            }))
        }
        Outcome::Failed(cause) => {
            let words = format!("release {} of `{agent}` did not start: {cause}", release.0);
            Err(ApiError::wrong_field(words))
        }
        Outcome::Unknown => {
            let words = format!(
                "the supervisor ended, or another went on, before it was known; `par releases {agent}` tells"
            );
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, words))
        }
        Outcome::Withdrawn => {
            let words = format!("agent `{agent}` was stopped or replaced meanwhile");
            Err(ApiError::new(StatusCode::CONFLICT, words))
        }
    }
}

fn described(kept: &KeptAgent, release: &KeptRelease) -> ReleaseInfo {
    let (outcome, reason) = match &release.outcome {
        Kept::Pending => ("pending", None),
        Kept::Live => ("live", None),
        Kept::Superseded => ("superseded", None),
        Kept::Failed { reason } => ("failed", Some(reason.clone())),
    };
    let canary = kept.wish.canary.filter(|it| it.release == release.number);
    let created = UNIX_EPOCH + Duration::from_millis(release.created_at_ms);
    ReleaseInfo {
        release: release.number,
        package_id: release.package_id.clone(),
        package_digest: release.digest.to_string(),
        created_at: humantime::format_rfc3339_seconds(created).to_string(),
        outcome: outcome.to_owned(),
        reason,
        current: release.number == kept.wish.current,
        canary_percent: canary.map(|it| f64::from(it.permille) / 10.0),
        note: release.note.clone(),
        env: release.env.keys().cloned().collect(),
        secrets: release.secrets.names().map(str::to_owned).collect(),
        options: release.options.clone(),
    }
}
