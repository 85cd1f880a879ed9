//! `GET /supervisor/health` and `GET /runtime/health`

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use par_lifecycle::Route;
use par_model::ProcessState;
use par_model::api::{AgentHealth, FleetHealth, RuntimeHealth};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use crate::snapshot::Known;

/// For each agent; they are asked side by side.
const LONGEST_ANSWER: Duration = Duration::from_secs(2);
const LARGEST_ANSWER: usize = 1 << 20;

/// Asks every agent how it is.
#[utoipa::path(get, path = "/supervisor/health", responses((status = 200, body = FleetHealth)))]
pub(super) async fn fleet_health(State(api): Shared) -> Json<FleetHealth> {
    let snapshot = api.control.snapshot();
    let mut asked = JoinSet::new();
    for (agent, known) in &snapshot.agents {
        let (agent, known) = (agent.to_string(), Arc::clone(known));
        let socket = known
            .replica()
            .incarnation
            .map(|it| api.sockets.join(format!("{}.sock", it.replica)));
        asked.spawn(async move {
            let health = match socket {
                Some(socket) if known.state() == ProcessState::Running => {
                    ask(&agent, &socket).await
                }
                _ if known.status.route == Route::Asleep => AgentHealth::Healthy {
                    details: serde_json::json!({ "status": "idle", "agent_id": agent }),
                    agent_id: agent.clone(),
                },
                _ => not_running(&known),
            };
            (agent, health)
        });
    }
    let agent_health: BTreeMap<String, AgentHealth> = asked.join_all().await.into_iter().collect();
    let healthy = agent_health
        .values()
        .filter(|health| matches!(health, AgentHealth::Healthy { .. }))
        .count();
    Json(FleetHealth {
        status: if healthy == agent_health.len() {
            "healthy"
        } else {
            "degraded"
        }
        .to_owned(),
        total_agents: agent_health.len(),
        healthy_agents: healthy,
        agent_health,
    })
}

fn not_running(known: &Known) -> AgentHealth {
    let state = known.state().as_str();
    let error = match known.error() {
        Some(cause) => format!("{state}: {cause}"),
        None => state.to_owned(),
    };
    AgentHealth::Error { error }
}

async fn ask(agent: &str, socket: &Path) -> AgentHealth {
    match timeout(LONGEST_ANSWER, fetch(socket)).await {
        Ok(Ok((200, details))) => AgentHealth::Healthy {
            agent_id: agent.to_owned(),
            details,
        },
        Ok(Ok((status_code, _))) => AgentHealth::Unhealthy { status_code },
        Ok(Err(error)) => AgentHealth::Error {
            error: error.to_string(),
        },
        Err(_elapsed) => AgentHealth::Error {
            error: format!("no answer within {LONGEST_ANSWER:?}"),
        },
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn fetch(socket: &Path) -> Result<(u16, serde_json::Value), BoxError> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::get("/health")
        .header("host", "agent")
        .body(Empty::<bytes::Bytes>::new())?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER)
            .collect()
            .await?
            .to_bytes();
        Ok::<_, BoxError>((status, serde_json::from_slice(&body)?))
    };
    tokio::pin!(answered, connection);
    tokio::select! {
        answer = &mut answered => answer,
        ended = &mut connection => {
            ended?;
            answered.await
        }
    }
}

/// Whether the runtime itself is up.
#[utoipa::path(get, path = "/runtime/health", responses((status = 200, body = RuntimeHealth)))]
pub(super) async fn runtime_health() -> Json<RuntimeHealth> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Json(RuntimeHealth {
        status: "healthy".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: "supervisor".to_owned(),
        timestamp: since.as_secs_f64(),
    })
}
