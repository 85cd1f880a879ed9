//! What callers notice of what an operator does.

use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::traffic::{AGENTS, Right, SOURCE, STREAM, SURFACE, Tally, Traffic};
use crate::bench::extent::Extent;
use crate::bench::peers::supervisor::Supervisor;
use crate::bench::process::end_of;
use crate::bench::progress;
use crate::bench::statistics::{Spread, percentile, sorted};
use crate::bench::workshop::Workshop;

/// Before the first change: all streams are open by then.
const LEAD: Duration = Duration::from_secs(1);
/// After each change.
const REST: Duration = Duration::from_millis(300);
/// For a replica whose streams have come to their end.
const TIME_TO_END: Duration = Duration::from_secs(30);
/// Of what went wrong, so much is told in words.
const TOLD: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Nothing,
    Release,
    Scale,
    Upgrade,
}

#[derive(Serialize)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    /// From the order until what was replaced has ended, which waits for its streams.
    pub(crate) took: Spread,
    pub(crate) calls: usize,
    pub(crate) failures: usize,
    pub(crate) streams: usize,
    pub(crate) broken: usize,
    /// The first of what went wrong.
    pub(crate) told: Vec<String>,
    pub(crate) during: During,
}

/// Calls that were sent while a change was under way.
#[derive(Serialize)]
pub(crate) struct During {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

pub(super) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Vec<Change>> {
    let mut releases = vec![];
    for number in 0..=extent.changes {
        let source = format!("# {number}\n{SOURCE}");
        releases.push(workshop.package_with(SURFACE, &source).await?);
    }
    let mut supervisor = workshop.supervisor().await?;
    for agent in AGENTS {
        supervisor.deploy(agent, &releases[0]).await?;
    }
    let mut changes = vec![];
    for kind in [Kind::Nothing, Kind::Release, Kind::Scale, Kind::Upgrade] {
        progress(&format!("under load: {}", kind.words()))?;
        let traffic = Traffic::begin(supervisor.address).await?;
        sleep(LEAD).await;
        let mut spans = vec![];
        for release in &releases[1..] {
            let begun = Instant::now();
            match kind {
                Kind::Nothing => sleep(LEAD).await,
                Kind::Release => roll_all(&supervisor, release).await?,
                Kind::Scale => scale_all(&supervisor).await?,
                Kind::Upgrade => supervisor.upgrade(&workshop.par).await?,
            }
            spans.push(begun..Instant::now());
            sleep(REST).await;
        }
        let (calls, streams) = traffic.end().await;
        changes.push(Change::of(kind, &spans, calls, streams));
    }
    Ok(changes)
}

async fn roll_all(supervisor: &Supervisor, package: &[u8]) -> anyhow::Result<()> {
    for agent in AGENTS {
        let before = workers(supervisor, agent).await?;
        supervisor.deploy(agent, package).await?;
        settle(supervisor, agent, 1, &before).await?;
    }
    Ok(())
}

/// 1 → 3 → 1
async fn scale_all(supervisor: &Supervisor) -> anyhow::Result<()> {
    for agent in AGENTS {
        for replicas in [3, 1] {
            let before = workers(supervisor, agent).await?;
            let path = format!("/supervisor/agents/{agent}/scale");
            let asked = json!({ "replicas": replicas });
            supervisor.post(&path, &asked).await?;
            settle(supervisor, agent, replicas, &before).await?;
            // Streams that begin meanwhile are for all replicas.
            sleep(STREAM).await;
        }
    }
    Ok(())
}

/// Waits until so many replicas run, and those of `before` that are none of them have ended.
async fn settle(
    supervisor: &Supervisor,
    agent: &str,
    replicas: usize,
    before: &[u32],
) -> anyhow::Result<()> {
    let are_running = |process: &Value| {
        let all = process["instances"].as_array();
        all.is_some_and(|all| {
            all.len() == replicas && all.iter().all(|it| it["state"] == "running")
        })
    };
    supervisor.wait_for(agent, are_running).await?;
    let after = workers(supervisor, agent).await?;
    for pid in before.iter().filter(|pid| !after.contains(pid)) {
        end_of(*pid, TIME_TO_END).await?;
    }
    Ok(())
}

async fn workers(supervisor: &Supervisor, agent: &str) -> anyhow::Result<Vec<u32>> {
    let process = supervisor.process(agent).await?;
    let replicas = process["instances"].as_array().into_iter().flatten();
    let pids = replicas.filter_map(|replica| replica["pid"].as_u64());
    Ok(pids.map(u32::try_from).collect::<Result<_, _>>()?)
}

impl Kind {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Release => "a release rolls",
            Self::Scale => "replicas 1 → 3 → 1",
            Self::Upgrade => "`par upgrade`",
        }
    }
}

impl Change {
    fn of(kind: Kind, spans: &[Range<Instant>], calls: Tally, streams: Tally) -> Self {
        let times: Vec<Duration> = spans.iter().map(|span| span.end - span.start).collect();
        let told = calls.failures.iter().chain(&streams.failures);
        Self {
            kind,
            took: Spread::of(&times),
            calls: calls.right.len() + calls.failures.len(),
            failures: calls.failures.len(),
            streams: streams.right.len() + streams.failures.len(),
            broken: streams.failures.len(),
            told: told.take(TOLD).cloned().collect(),
            during: During::of(spans, &calls.right),
        }
    }
}

impl During {
    fn of(spans: &[Range<Instant>], calls: &[Right]) -> Self {
        let within = |call: &&Right| spans.iter().any(|span| span.contains(&call.sent));
        let times = calls.iter().filter(within);
        let times = sorted(times.map(|call| call.took.as_secs_f64() * 1e3).collect());
        let lasted: Duration = spans.iter().map(|span| span.end - span.start).sum();
        Self {
            per_second: times.len() as f64 / lasted.as_secs_f64(),
            p50_ms: percentile(&times, 0.5),
            p99_ms: percentile(&times, 0.99),
            max_ms: percentile(&times, 1.0),
        }
    }
}
