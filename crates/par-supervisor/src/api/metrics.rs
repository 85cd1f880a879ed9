//! `GET /metrics`: what the supervisor knows without asking anybody. Workers have pages of their own.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use par_gateway::Routes;
use par_model::AgentId;
use par_model::egress::EgressFigures;
use par_sandbox::Usage;
use par_telemetry::metrics::{Egress, Figure, Format, Kind, Page, write_egress, write_process};
use tokio::sync::Mutex;

use super::Shared;
use super::refusal::ApiError;
use crate::snapshot::{Known, Snapshot};

/// What the page needs beside the snapshot.
pub(crate) struct Figures {
    routes: Routes,
    /// Pages are written one after another, however many ask.
    turn: Mutex<()>,
}

impl Figures {
    pub(crate) fn of(routes: Routes) -> Self {
        Self {
            routes,
            turn: Mutex::default(),
        }
    }
}

/// Figures for Prometheus; in OpenMetrics for those who accept it.
#[utoipa::path(
    get, path = "/metrics",
    responses((status = 200, description = "Figures, in the text format of Prometheus or in OpenMetrics 1.0", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(api): Shared, headers: HeaderMap) -> Result<Response, ApiError> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    let _turn = api.figures.turn.lock().await;
    let snapshot = api.control.snapshot();
    let routes = api.figures.routes.clone();
    let egress = api.control.egress.all();
    let page =
        tokio::task::spawn_blocking(move || write(format, &snapshot, &routes, &egress)).await;
    let page = page.map_err(|error| ApiError::internal(&error))?;
    let kind = HeaderValue::from_static(format.content_type());
    Ok(([(CONTENT_TYPE, kind)], page).into_response())
}

fn write(
    format: Format,
    snapshot: &Snapshot,
    routes: &Routes,
    egress: &BTreeMap<AgentId, EgressFigures>,
) -> String {
    let mut page = Page::new(format);
    let help = "What runs.";
    page.family(Kind::Info, "par_build", help)
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    write_agents(&mut page, snapshot);
    routes.write_figures(&mut page);
    write_usage(&mut page, &usage_of(snapshot));
    let egress = egress.iter().map(|(agent, figures)| Egress {
        agent: Some(agent.as_str()),
        connections: figures.connections,
        sent_bytes: figures.sent_bytes,
        received_bytes: figures.received_bytes,
        refused: &figures.refused,
    });
    write_egress(&mut page, &egress.collect::<Vec<_>>());
    write_process(&mut page);
    page.finish()
}

fn write_isolation(page: &mut Page, snapshot: &Snapshot) {
    let help = "1 for the profile that keeps an agent apart.";
    let mut family = page.family(Kind::Gauge, "par_agent_isolation", help);
    for (agent, known) in &snapshot.agents {
        if let Some(isolation) = known.isolation() {
            let profile = isolation.enforced.to_string();
            family.sample(&[("agent", agent.as_str()), ("profile", &profile)], 1);
        }
    }
}

fn write_agents(page: &mut Page, snapshot: &Snapshot) {
    let mut by_state: BTreeMap<&str, u64> = BTreeMap::new();
    for known in snapshot.agents.values() {
        *by_state.entry(known.word()).or_default() += 1;
    }
    let mut family = page.family(
        Kind::Gauge,
        "par_agents",
        "Agents that are deployed, by state.",
    );
    for (state, count) in by_state {
        family.sample(&[("state", state)], count);
    }
    let help = "1 for the state that an agent is in.";
    let mut family = page.family(Kind::Gauge, "par_agent_state", help);
    for (agent, known) in &snapshot.agents {
        let state = known.word();
        family.sample(&[("agent", agent.as_str()), ("state", state)], 1);
    }
    write_isolation(page, snapshot);
    let now = Instant::now();
    let help = "Times that an agent was started again after it had ended by itself.";
    of_each(
        page,
        snapshot,
        Kind::Counter,
        "par_agent_restarts",
        help,
        |known| Some(u64::from(known.restarts())),
    );
    let help = "The number of the release that takes the calls.";
    of_each(
        page,
        snapshot,
        Kind::Gauge,
        "par_agent_release",
        help,
        |known| Some(u64::from(known.release().0)),
    );
    let help = "Replicas that are wanted.";
    of_each(
        page,
        snapshot,
        Kind::Gauge,
        "par_agent_replicas_wanted",
        help,
        |known| Some(u64::from(known.status.desired.replicas)),
    );
    let help = "Time for which an agent has been ready.";
    of_each(
        page,
        snapshot,
        Kind::Gauge,
        "par_agent_uptime_seconds",
        help,
        |known| {
            let since = known.replica().ready_since?;
            Some(now.saturating_duration_since(since).as_secs_f64())
        },
    );
}

fn of_each<F: Figure>(
    page: &mut Page,
    snapshot: &Snapshot,
    kind: Kind,
    name: &'static str,
    help: &'static str,
    figure: impl Fn(&Known) -> Option<F>,
) {
    let mut family = page.family(kind, name, help);
    for (agent, known) in &snapshot.agents {
        if let Some(value) = figure(known) {
            family.sample(&[("agent", agent.as_str())], value);
        }
    }
}

/// What every agent that lives uses of the machine now, its worker included.
fn usage_of(snapshot: &Snapshot) -> Vec<(&AgentId, Usage)> {
    let table = par_sandbox::process_table();
    let living = snapshot.agents.iter().filter_map(|(agent, known)| {
        let pids = known.status.incarnations().filter_map(|it| it.pid);
        let parts = pids.filter_map(|pid| par_sandbox::usage(&table, pid));
        Some((agent, parts.reduce(Usage::and)?))
    });
    living.collect()
}

fn write_usage(page: &mut Page, agents: &[(&AgentId, Usage)]) {
    let help =
        "Memory of an agent and its worker that is resident; what they share counts for each.";
    used(
        page,
        agents,
        Kind::Gauge,
        "par_agent_memory_rss_bytes",
        help,
        |usage| Some(usage.rss_bytes),
    );
    let help = "Time on processors of the processes that an agent has now, its worker included.";
    let mut family = page.family(Kind::Counter, "par_agent_cpu_seconds", help);
    for (agent, usage) in agents {
        for (mode, time) in [("user", usage.user_time), ("system", usage.system_time)] {
            family.sample(&[("agent", agent.as_str()), ("mode", mode)], time);
        }
    }
    let help = "Threads of an agent and its worker.";
    used(
        page,
        agents,
        Kind::Gauge,
        "par_agent_threads",
        help,
        |usage| Some(usage.threads),
    );
    let help = "Files that an agent and its worker have open.";
    used(
        page,
        agents,
        Kind::Gauge,
        "par_agent_open_fds",
        help,
        |usage| usage.fds,
    );
    let help = "Read from disks by the processes that an agent has now.";
    used(
        page,
        agents,
        Kind::Counter,
        "par_agent_io_read_bytes",
        help,
        |usage| Some(usage.io?.0),
    );
    let help = "Written to disks by the processes that an agent has now.";
    used(
        page,
        agents,
        Kind::Counter,
        "par_agent_io_written_bytes",
        help,
        |usage| Some(usage.io?.1),
    );
}

fn used(
    page: &mut Page,
    agents: &[(&AgentId, Usage)],
    kind: Kind,
    name: &'static str,
    help: &'static str,
    figure: impl Fn(&Usage) -> Option<u64>,
) {
    let mut family = page.family(kind, name, help);
    for (agent, usage) in agents {
        if let Some(value) = figure(usage) {
            family.sample(&[("agent", agent.as_str())], value);
        }
    }
}
