//! `GET` and `DELETE /supervisor/logs`

mod asked;
mod following;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use par_model::AgentId;
use par_model::api::{Detail, Done, LogRecord, Logs};

use super::refusal::ApiError;
use super::{Api, Shared};
use asked::{Asked, Cleared, Wanted, pairs_of, processes};

/// What agents wrote, newest first; with `follow`, oldest first and on and on, as server-sent events or, when the request
/// asks for one, over a WebSocket. Whoever comes back goes on after the `id` of the last line, with `Last-Event-ID`.
#[utoipa::path(
    get, path = "/supervisor/logs", params(Wanted),
    responses((status = 200, body = Logs), (status = 400, description = "A parameter is wrong", body = Detail))
)]
pub(super) async fn read(State(api): Shared, request: Request) -> Result<Response, ApiError> {
    let asked = Asked::read(request.uri(), request.headers(), |agent| known(&api, agent))?;
    let logs = &api.control.logs;
    if asked.follow {
        return following::answer(logs, asked, api.control.elsewhere.clone(), request).await;
    }
    let found = logs
        .find(asked.filter, asked.after.unwrap_or(0), asked.limit)
        .await;
    let on_disk = logs.trouble();
    let on_disk = on_disk.map(|reason| format!("lines are not kept on disk: {reason}"));
    let records: Vec<LogRecord> = found.entries.iter().map(|entry| entry.to_api()).collect();
    let answer = Logs {
        count: records.len(),
        logs: records,
        notes: found.incomplete.into_iter().chain(on_disk).collect(),
    };
    Ok(Json(answer).into_response())
}

/// Forgets what agents, or every agent, have written.
#[utoipa::path(
    delete, path = "/supervisor/logs", params(Cleared),
    responses((status = 200, body = Done), (status = 400, description = "A parameter is wrong", body = Detail))
)]
pub(super) async fn clear(State(api): Shared, request: Request) -> Result<Json<Done>, ApiError> {
    let mut agents = vec![];
    for (name, value) in pairs_of(request.uri())? {
        if name == "process_id" {
            agents.extend(processes(&value, |agent| known(&api, agent))?);
        }
    }
    let logs = &api.control.logs;
    let named: Vec<Option<&AgentId>> = match agents.is_empty() {
        true => vec![None],
        false => agents.iter().map(Some).collect(),
    };
    for agent in named {
        // When the store has ended meanwhile, so do we.
        let _ended = logs.clear(agent).await;
    }
    let names: Vec<&str> = agents.iter().map(AgentId::as_str).collect();
    let message = match names[..] {
        [] => "Logs of all agents cleared".to_owned(),
        _ => format!("Logs of {} cleared", names.join(", ")),
    };
    Ok(Json(Done {
        message: Some(message),
        ..Done::success()
    }))
}

/// Whether there is, or was, such an agent: the lines of one that is gone may still be there.
fn known(api: &Api, agent: &AgentId) -> bool {
    api.control.snapshot().agents.contains_key(agent) || api.control.logs.has(agent)
}
