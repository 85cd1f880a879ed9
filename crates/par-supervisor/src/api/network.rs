//! Where an agent may go: what it asks for, and what the operator granted.

use std::str::FromStr as _;
use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use par_model::AgentId;
use par_model::api::{Destinations, Detail, Granted, Network, SpawnOptions};
use par_model::event::{EventKind, NewEvent};
use par_model::network::Destination;
use par_package::Manifest;

use super::refusal::ApiError;
use super::spawn::field_by_field;
use super::{Api, Shared};
use crate::allowances::Allow;
use crate::events::happening;

/// Where an agent may go, and what it asks for and may not have.
#[utoipa::path(
    get, path = "/supervisor/agents/{process_id}/network",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    responses((status = 200, body = Network), (status = 422, description = "That is no agent's name", body = Detail))
)]
pub(super) async fn read(
    State(api): Shared,
    Path(word): Path<String>,
) -> Result<Json<Network>, ApiError> {
    let agent = named(&api, &word)?;
    Ok(Json(described(&api, &agent)))
}

/// Lets an agent go to these destinations from now on. It need not be there yet.
#[utoipa::path(
    post, path = "/supervisor/agents/{process_id}/network/grant",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    request_body = Destinations,
    responses((status = 200, body = Network), (status = 422, description = "A destination is wrong, or one of the runtime's own", body = Detail))
)]
pub(super) async fn grant(
    State(api): Shared,
    Path(word): Path<String>,
    body: Bytes,
) -> Result<Json<Network>, ApiError> {
    let Destinations { destinations } = field_by_field(&body)?;
    let agent = named(&api, &word)?;
    granted(&api, &agent, destinations).await?;
    Ok(Json(described(&api, &agent)))
}

/// Does not let an agent go there from now on; connections that are open go on.
#[utoipa::path(
    post, path = "/supervisor/agents/{process_id}/network/revoke",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    request_body = Destinations,
    responses((status = 200, body = Network), (status = 404, description = "One of them is not granted: none was revoked", body = Detail), (status = 422, description = "A destination, or the agent's name, is wrong", body = Detail))
)]
pub(super) async fn revoke(
    State(api): Shared,
    Path(word): Path<String>,
    body: Bytes,
) -> Result<Json<Network>, ApiError> {
    let Destinations { destinations } = field_by_field(&body)?;
    let agent = named(&api, &word)?;
    let words = listed(&destinations);
    let allow = Allow::Revoke(destinations);
    api.control.allow(agent.clone(), allow).await?;
    note(&api, &agent, EventKind::NetworkRevoked, words);
    Ok(Json(described(&api, &agent)))
}

/// Grants, and notes that it was.
pub(super) async fn granted(
    api: &Api,
    agent: &AgentId,
    destinations: Vec<Destination>,
) -> Result<(), ApiError> {
    if destinations.is_empty() {
        return Ok(());
    }
    let words = listed(&destinations);
    let allow = Allow::Grant(destinations);
    api.control.allow(agent.clone(), allow).await?;
    note(api, agent, EventKind::NetworkGranted, words);
    Ok(())
}

fn listed(destinations: &[Destination]) -> String {
    let words: Vec<String> = destinations.iter().map(ToString::to_string).collect();
    words.join(", ")
}

pub(super) fn note(api: &Api, agent: &AgentId, kind: EventKind, words: String) {
    api.events.note(NewEvent {
        agent: Some(agent.clone()),
        reason: Some(words),
        ..happening(kind)
    });
}

/// An agent that is there, or may be some day.
pub(super) fn named(api: &Api, word: &str) -> Result<AgentId, ApiError> {
    if let Some((agent, _)) = api.control.snapshot().find(word) {
        return Ok(agent.clone());
    }
    AgentId::from_str(word).map_err(|error| ApiError::wrong_field(error.to_string()))
}

pub(super) fn unknown(api: &Api, agent: &AgentId) -> Option<String> {
    let is_there = api.control.snapshot().agents.contains_key(agent);
    (!is_there).then(|| format!("there is no agent `{agent}` yet; it holds for one of that name"))
}

/// As RFC 3339 writes it.
pub(super) fn time(ms: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(at).to_string()
}

fn described(api: &Api, agent: &AgentId) -> Network {
    let allowances = api.control.allowances.borrow();
    let kept = allowances.of(agent);
    let granted = kept.iter().flat_map(|kept| &kept.granted);
    let granted = granted.map(|(destination, at)| Granted {
        destination: destination.to_string(),
        granted_at: time(*at),
    });
    let snapshot = api.control.snapshot();
    let known = snapshot.agents.get(agent);
    let asked = known.map_or(&[][..], |known| &known.made.options.network);
    let missing = allowances.missing(agent, asked);
    Network {
        agent_id: agent.to_string(),
        granted: granted.collect(),
        not_granted: missing.map(ToString::to_string).collect(),
        notes: unknown(api, agent).into_iter().collect(),
    }
}

/// A release asks for what its manifest asks for, and for what its deployer adds.
pub(crate) fn ask(options: &mut SpawnOptions, manifest: &Manifest) {
    let asked = &mut options.network;
    asked.extend(manifest.network.iter().cloned());
    asked.sort();
    asked.dedup();
}

/// What whoever deploys is told of what is not granted.
pub(super) fn warnings(api: &Api, agent: &AgentId, options: &SpawnOptions) -> Vec<String> {
    let allowances = api.control.allowances.borrow();
    let missing = allowances.missing(agent, &options.network);
    let words = |destination: &Destination| {
        format!(
            "it asks to reach {destination}, which is not granted; to allow it: par network grant {agent} {destination}"
        )
    };
    missing.map(words).collect()
}
