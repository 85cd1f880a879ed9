//! Secrets of an agent: set and removed, listed without their values.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use par_model::AgentId;
use par_model::api::{Detail, NewSecret, SecretInfo, SecretList};
use par_model::egress::{LARGEST_SECRET, SecretName, check_header_value};
use par_model::event::EventKind;
use par_model::network::HostPattern;
use par_store::KeptSecret;

use super::network::{named, note, time, unknown};
use super::refusal::ApiError;
use super::spawn::field_by_field;
use super::{Api, Shared};
use crate::allowances::Allow;
use crate::events::now_ms;
use crate::secret::placeholder;

const MOST_HOSTS: usize = 16;

/// The secrets of an agent, without their values.
#[utoipa::path(
    get, path = "/supervisor/agents/{process_id}/secrets",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    responses((status = 200, body = SecretList), (status = 422, description = "That is no agent's name", body = Detail))
)]
pub(super) async fn list(
    State(api): Shared,
    Path(word): Path<String>,
) -> Result<Json<SecretList>, ApiError> {
    let agent = named(&api, &word)?;
    let notes = unknown(&api, &agent).into_iter().collect();
    Ok(Json(described(&api, &agent, notes)))
}

/// Gives an agent a secret, or changes it. With the proxy it holds at once, in the environment when the agent starts again.
#[utoipa::path(
    post, path = "/supervisor/agents/{process_id}/secrets",
    params(("process_id", description = "`par-<agent>`, or the bare agent id")),
    request_body = NewSecret,
    responses((status = 200, body = SecretList), (status = 422, description = "A field is wrong", body = Detail))
)]
pub(super) async fn set(
    State(api): Shared,
    Path(word): Path<String>,
    body: Bytes,
) -> Result<Json<SecretList>, ApiError> {
    let new: NewSecret = field_by_field(&body)?;
    let agent = named(&api, &word)?;
    check(&new)?;
    let name = new.name.to_string();
    let mut notes: Vec<String> = unknown(&api, &agent).into_iter().collect();
    notes.extend(consequences(&api, &agent, &new));
    let placeholder = placeholder(&name).map_err(|error| ApiError::internal(&error))?;
    let secret = KeptSecret {
        placeholder,
        name: new.name,
        value: new.value,
        hosts: new.hosts,
        header: new.header,
        as_env: new.as_env,
        set_at_ms: now_ms(),
    };
    let allow = Allow::SetSecret(Box::new(secret));
    api.control.allow(agent.clone(), allow).await?;
    note(&api, &agent, EventKind::SecretSet, name);
    Ok(Json(described(&api, &agent, notes)))
}

/// Takes a secret away. With the proxy that holds at once; what is in an environment stays there until the agent ends.
#[utoipa::path(
    delete, path = "/supervisor/agents/{process_id}/secrets/{name}",
    params(("process_id", description = "`par-<agent>`, or the bare agent id"), ("name", description = "Of the secret")),
    responses((status = 200, body = SecretList), (status = 404, description = "There is none", body = Detail), (status = 422, description = "The agent's name, or the secret's, is wrong", body = Detail))
)]
pub(super) async fn remove(
    State(api): Shared,
    Path((word, name)): Path<(String, String)>,
) -> Result<Json<SecretList>, ApiError> {
    let agent = named(&api, &word)?;
    let name: SecretName = name
        .parse()
        .map_err(|wrong| ApiError::wrong_field(format!("name: {wrong}")))?;
    let words = name.to_string();
    api.control
        .allow(agent.clone(), Allow::RemoveSecret(name))
        .await?;
    note(&api, &agent, EventKind::SecretRemoved, words);
    Ok(Json(described(&api, &agent, vec![])))
}

/// Says nothing of the value.
fn check(new: &NewSecret) -> Result<(), ApiError> {
    let wrong = |words: String| Err(ApiError::wrong_field(words));
    if par_package::is_reserved(new.name.as_str()) {
        return wrong(format!("name: `{}` is set by the runtime alone", new.name));
    }
    if new.value.is_empty() || new.value.len() > LARGEST_SECRET {
        return wrong(format!("value: not of 1 to {LARGEST_SECRET} bytes"));
    }
    if new.hosts.len() > MOST_HOSTS {
        return wrong(format!("hosts: more than {MOST_HOSTS}"));
    }
    match (new.as_env, new.hosts.is_empty(), &new.header) {
        (true, false, _) | (true, _, Some(_)) => wrong(
            "as_env: a value in the environment goes to no hosts and into no header".to_owned(),
        ),
        (true, ..) if new.value.contains('\0') => {
            wrong("value: contains a NUL character".to_owned())
        }
        (true, ..) => Ok(()),
        (false, true, _) => wrong(
            "hosts: to whom is it sent? Name one at least (--host), or ask for as_env (--as-env)"
                .to_owned(),
        ),
        (false, false, _) => match check_header_value(&new.value) {
            Ok(()) => Ok(()),
            Err(what) => wrong(format!("value: {what}")),
        },
    }
}

/// What the operator should know.
fn consequences(api: &Api, agent: &AgentId, new: &NewSecret) -> Vec<String> {
    if new.as_env {
        return vec![format!(
            "the value of {} is in the environment of agent `{agent}` from its next start: its code can read it and send it anywhere it may go",
            new.name
        )];
    }
    let allowances = api.control.allowances.borrow();
    let granted = allowances.egress(agent).granted;
    let leads = |host: &&HostPattern| granted.iter().any(|it| it.hosts == **host);
    let nowhere = new.hosts.iter().filter(|host| !leads(host));
    let words = |host: &HostPattern| {
        format!(
            "no grant names {host}; for TLS by the proxy: par network grant {agent} https://{host}"
        )
    };
    nowhere.map(words).collect()
}

fn described(api: &Api, agent: &AgentId, notes: Vec<String>) -> SecretList {
    let allowances = api.control.allowances.borrow();
    let kept = allowances.of(agent);
    let secrets = kept.iter().flat_map(|kept| &kept.secrets);
    let secrets = secrets.map(|secret| SecretInfo {
        name: secret.name.to_string(),
        hosts: secret.hosts.iter().map(ToString::to_string).collect(),
        header: secret.header.as_ref().map(ToString::to_string),
        as_env: secret.as_env,
        set_at: time(secret.set_at_ms),
    });
    SecretList {
        agent_id: agent.to_string(),
        secrets: secrets.collect(),
        notes,
    }
}
