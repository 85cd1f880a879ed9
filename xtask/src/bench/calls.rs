//! The chapter of calls: the same trivial work in every way, side by side.

mod cpu;
mod latency;
mod rounds;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use super::answer::post_json;
use super::extent::Extent;
use super::load::Call;
use super::peers::nginx::Nginx;
use super::peers::supervisor::{AgentStatus, Supervisor, invoke_path};
use super::peers::uvicorn::Uvicorn;
use super::peers::{Missing, Open, Way};
use super::process::memory;
use super::workshop::Workshop;
use cpu::CpuShare;
pub(crate) use latency::Latency;
pub(crate) use rounds::Throughput;

const SYNC: &str = "def invoke(body):\n    return {\"x\": body[\"x\"]}\n";
const ASYNC: &str = "async def invoke(body):\n    return {\"x\": body[\"x\"]}\n";

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

pub(crate) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Calls> {
    let supervisor = workshop.supervisor().await?;
    let worker = bring_up(workshop, &supervisor, "plain", SYNC).await?;
    bring_up(workshop, &supervisor, "async", ASYNC).await?;
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
    let (mut open, mut missing) = (vec![], vec![]);
    for (way, address, path) in ways {
        match address {
            Ok(address) => open.push(open_way(way, address, &path).await?),
            Err(error) => missing.push(Missing {
                way,
                reason: format!("{error:#}"),
            }),
        }
    }
    let latency = latency::side_by_side(&open, extent).await?;
    let throughput = rounds::interleaved(&open, extent).await?;
    let cpu = cpu::shares(&open, &supervisor, &worker, extent).await?;
    Ok(Calls {
        throughput,
        latency,
        cpu,
        missing,
        supervisor_memory_afterwards: memory(supervisor.pid()?)?,
    })
}

async fn bring_up(
    workshop: &Workshop,
    supervisor: &Supervisor,
    agent: &str,
    source: &str,
) -> anyhow::Result<AgentStatus> {
    let package = workshop.package(source).await?;
    supervisor.deploy(agent, &package).await?;
    let status = supervisor.status(agent).await?;
    status.with_context(|| format!("`{agent}` was deployed and does not run"))
}

async fn open_way(way: Way, address: SocketAddr, path: &str) -> anyhow::Result<Open> {
    let body = json!({ "x": 1 });
    let call = Call::prove(address, post_json(path, &body), &body).await;
    let call = call.with_context(|| format!("the first call {}", way.words()))?;
    Ok(Open { way, call })
}
