//! The chapter of calls: the same trivial work in every way, side by side.

pub(crate) mod cpu;
pub(crate) mod grpc;
mod latency;
pub(crate) mod rounds;

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use super::answer::post_json;
use super::call::{Call, HttpCall};
use super::extent::Extent;
use super::peers::nginx::Nginx;
use super::peers::supervisor::{AgentStatus, Supervisor, invoke_path};
use super::peers::uvicorn::Uvicorn;
use super::peers::{Missing, Open, Way};
use super::process::memory;
use super::progress;
use super::workshop::Workshop;
pub(crate) use cpu::CpuShare;
pub(crate) use latency::Latency;
pub(crate) use rounds::Throughput;

const SYNC: &str = "def invoke(body):\n    return {\"x\": body[\"x\"]}\n";
const ASYNC: &str = "async def invoke(body):\n    return {\"x\": body[\"x\"]}\n";
/// Calls at a time.
const NUMBERS: [usize; 3] = [1, 16, 64];
const MOST: usize = 64;

#[derive(Serialize)]
pub(crate) struct Calls {
    pub(crate) throughput: Vec<Throughput>,
    pub(crate) latency: Vec<Latency>,
    /// Of a call through the supervisor, with 64 of them at a time.
    pub(crate) cpu: Vec<CpuShare>,
    pub(crate) missing: Vec<Missing>,
    /// Of the supervisor, after all these calls. Bytes.
    pub(crate) supervisor_memory_afterwards: u64,
}

/// Over HTTP.
pub(crate) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Calls> {
    let supervisor = workshop.supervisor().await?;
    let worker = bring_up(&supervisor, "plain", &workshop.package(SYNC).await?).await?;
    bring_up(&supervisor, "async", &workshop.package(ASYNC).await?).await?;
    let worker_address = SocketAddr::from((Ipv4Addr::LOCALHOST, worker.port));
    let nginx = Nginx::start(workshop.folder(), worker_address).await;
    let uvicorn = Uvicorn::start(workshop.folder(), &workshop.bench_environment()).await;
    let ways = [
        (Way::Worker, Ok(worker_address), "/invoke".to_owned()),
        (
            Way::Supervisor,
            Ok(supervisor.address),
            invoke_path("plain"),
        ),
        (
            Way::SupervisorAsync,
            Ok(supervisor.address),
            invoke_path("async"),
        ),
        (
            Way::Nginx,
            nginx.as_ref().map(|it| it.address),
            "/invoke".to_owned(),
        ),
        (
            Way::Uvicorn,
            uvicorn.as_ref().map(|it| it.address),
            "/invoke".to_owned(),
        ),
    ];
    let mut ways_there = Ways::default();
    for (way, address, path) in ways {
        match address {
            Ok(address) => ways_there.open.push(open_way(way, address, &path).await?),
            Err(error) => ways_there.miss(way, error),
        }
    }
    compare(
        "calls",
        ways_there,
        Way::Supervisor,
        &supervisor,
        &worker,
        extent,
    )
    .await
}

/// Ways that are open, and those that are not.
#[derive(Default)]
struct Ways {
    open: Vec<Open>,
    missing: Vec<Missing>,
}

impl Ways {
    fn miss(&mut self, way: Way, error: &anyhow::Error) {
        self.missing.push(Missing {
            way,
            reason: format!("{error:#}"),
        });
    }
}

/// Measures all ways to the same work; one of them leads `through` the supervisor to `worker`.
async fn compare(
    what: &str,
    ways: Ways,
    through: Way,
    supervisor: &Supervisor,
    worker: &AgentStatus,
    extent: &Extent,
) -> anyhow::Result<Calls> {
    let latency = latency::side_by_side(what, &ways.open, extent).await?;
    let throughput = rounds::interleaved(what, &ways.open, &NUMBERS, extent).await?;
    progress(&format!("{what}: processor time"))?;
    let through = ways.open.iter().find(|open| open.way == through);
    let through = through.context("the supervisor is always measured")?;
    let processes = [
        ("supervisor", vec![supervisor.pid()?]),
        ("worker", vec![worker.pid]),
        ("agent", vec![worker.agent_pid]),
        ("load generator", vec![std::process::id()]),
    ];
    Ok(Calls {
        throughput,
        latency,
        cpu: cpu::shares(&through.call, MOST, &processes, extent).await?,
        missing: ways.missing,
        supervisor_memory_afterwards: memory(supervisor.pid()?)?,
    })
}

async fn bring_up(
    supervisor: &Supervisor,
    agent: &str,
    package: &[u8],
) -> anyhow::Result<AgentStatus> {
    supervisor.deploy(agent, package).await?;
    let status = supervisor.status(agent).await?;
    status.with_context(|| format!("`{agent}` was deployed and does not run"))
}

async fn open_way(way: Way, address: SocketAddr, path: &str) -> anyhow::Result<Open> {
    let body = json!({ "x": 1 });
    let call = HttpCall::prove(address, post_json(path, &body), &body).await;
    let call = call.with_context(|| format!("the first call {}", way.words()))?;
    Ok(Open {
        way,
        call: Call::Http(Rc::new(call)),
    })
}
