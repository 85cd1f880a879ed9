//! What the gateway counts of each agent: atomic numbers that stay with the agent from table to table, so that a call
//! finds them where it finds its route.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use par_door::Account;
use par_telemetry::metrics::{Calls, Family, Histogram, Kind, Page, Surface};

use crate::routes::{Route, RouteTable, Routes};

/// Who asks for an agent that there is not counts here, whatever the name: no caller can make figures grow. No agent
/// can have the name.
const NOBODY: &str = "_unknown";

#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) http: Arc<Calls>,
    pub(crate) grpc: Arc<Calls>,
    waiting: AtomicU64,
    wakes: AtomicU64,
    /// What its callers together have of it.
    pub(crate) account: Arc<Account>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            http: Calls::through(Surface::Http),
            grpc: Calls::through(Surface::Grpc),
            waiting: AtomicU64::new(0),
            wakes: AtomicU64::new(0),
            account: Arc::default(),
        }
    }
}

impl Figures {
    pub(crate) fn count_wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn wait(self: Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }
}

/// A call that waits for its agent, until dropped.
pub(crate) struct Waiting(Arc<Figures>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Routes {
    /// Writes what was counted of all agents that are known. Calls are not held up by it.
    pub fn write_figures(&self, page: &mut Page) {
        let table = self.load();
        let mut agents: Vec<(&str, &Figures)> = table.figures().collect();
        agents.sort_by_key(|(agent, _)| *agent);
        agents.push((NOBODY, self.nobodys_figures()));
        write_calls(page, &agents);
        write_durations(page, &agents);
        write_waits(page, &agents);
        write_replicas(page, &table);
    }
}

fn write_calls(page: &mut Page, agents: &[(&str, &Figures)]) {
    let help = "Calls to agents that are over, by surface, and by class of status or code.";
    let mut family = page.family(Kind::Counter, "par_gateway_calls", help);
    for (agent, figures) in agents {
        for (surface, calls) in [("http", &figures.http), ("grpc", &figures.grpc)] {
            for (outcome, count) in calls.outcomes() {
                let labels = [
                    ("agent", *agent),
                    ("surface", surface),
                    ("outcome", outcome),
                ];
                family.sample(&labels, count);
            }
        }
    }
}

fn write_durations(page: &mut Page, agents: &[(&str, &Figures)]) {
    let help = "Time from the head of a request to an agent to the end of its answer.";
    let name = "http_server_request_duration_seconds";
    let family = page.family(Kind::Histogram, name, help);
    write_histograms(family, agents, |figures| figures.http.duration());
    let help = "Time from the head of a gRPC call to an agent to its end.";
    let name = "rpc_server_call_duration_seconds";
    let family = page.family(Kind::Histogram, name, help);
    write_histograms(family, agents, |figures| figures.grpc.duration());
}

fn write_histograms(
    mut family: Family<'_>,
    agents: &[(&str, &Figures)],
    histogram: impl Fn(&Figures) -> &Histogram,
) {
    for (agent, figures) in agents {
        family.histogram(&[("agent", agent)], histogram(figures));
    }
}

fn write_waits(page: &mut Page, agents: &[(&str, &Figures)]) {
    let help = "Calls that wait for their agent to be ready.";
    let mut family = page.family(Kind::Gauge, "par_gateway_calls_waiting", help);
    for (agent, figures) in &agents[..agents.len() - 1] {
        let waiting = figures.waiting.load(Ordering::Relaxed);
        family.sample(&[("agent", agent)], waiting);
    }
    let help = "Times that a call woke an agent that had been stopped because nobody called.";
    let mut family = page.family(Kind::Counter, "par_gateway_wakeups", help);
    for (agent, figures) in &agents[..agents.len() - 1] {
        let wakes = figures.wakes.load(Ordering::Relaxed);
        family.sample(&[("agent", agent)], wakes);
    }
}

fn write_replicas(page: &mut Page, table: &RouteTable) {
    let mut seen: Vec<(&str, [u64; 3])> = table
        .iter()
        .map(|(agent, route)| (agent, replicas_of(route)))
        .collect();
    seen.sort_unstable();
    let help = "Replicas that calls may reach: ready, or leaving and left to their sessions.";
    let mut family = page.family(Kind::Gauge, "par_gateway_replicas", help);
    for (agent, [ready, leaving, _]) in &seen {
        family.sample(&[("agent", agent), ("role", "ready")], *ready);
        family.sample(&[("agent", agent), ("role", "leaving")], *leaving);
    }
    let help = "Calls that replicas work on, tunnels of WebSockets included.";
    let mut family = page.family(Kind::Gauge, "par_gateway_calls_in_flight", help);
    for (agent, [_, _, in_flight]) in &seen {
        family.sample(&[("agent", agent)], *in_flight);
    }
}

/// Ready ones, leaving ones, and their calls.
fn replicas_of(route: &Route) -> [u64; 3] {
    let Route::Ready(targets) = route else {
        return [0; 3];
    };
    let all = targets.backends().count() as u64;
    let leaving = targets.leaving().len() as u64;
    let calls = targets.backends().map(|backend| backend.in_flight() as u64);
    [all - leaving, leaving, calls.sum()]
}
