//! The execution backend: what a session costs to begin, to use, and to keep. All of it over gRPC, directly to the
//! worker.

mod first_chunk;
mod new_sessions;

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use serde::Serialize;

use super::answer::bare;
use super::call::Call;
use super::calls::{CpuShare, Throughput, cpu, rounds};
use super::connection::ask;
use super::extent::Extent;
use super::grpc::messages::{EXECUTE, ExecuteRequest, ExecuteResponse};
use super::grpc::{Channel, GrpcCall, Request};
use super::peers::supervisor::{AgentStatus, Supervisor};
use super::peers::{Open, Way};
use super::process::{children, memory};
use super::progress;
use super::statistics::Spread;
use super::workshop::Workshop;
use new_sessions::NewSessions;

const AGENT: &str = "sessions";
const SURFACE: &str = "capabilities: [code-execution]";
/// Its interpreters are ready by then.
const SETTLED: Duration = Duration::from_secs(1);
/// Runs at a time, each in a session of its own.
pub(crate) const NUMBERS: [usize; 2] = [1, 16];
const MOST: usize = 16;
/// What was begun for the last session is over by then.
const REST: Duration = Duration::from_secs(1);

#[derive(Serialize)]
pub(crate) struct Execution {
    pub(crate) new_sessions: NewSessions,
    /// Of runs of `1 + 1` in sessions that are there.
    pub(crate) throughput: Vec<Throughput>,
    /// Of such a run, with 16 of them at a time.
    pub(crate) cpu: Vec<CpuShare>,
    /// From a request to the first thing that its code says.
    pub(crate) first_chunk: Spread,
    pub(crate) memory: SessionMemory,
}

/// Proportional set sizes in bytes.
#[derive(Serialize)]
pub(crate) struct SessionMemory {
    pub(crate) sessions: usize,
    /// Of the sessions, and those that wait for one.
    pub(crate) interpreters: usize,
    /// Mean over the interpreters.
    pub(crate) interpreter: u64,
    pub(crate) worker: u64,
}

pub(crate) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Execution> {
    let supervisor = workshop.supervisor().await?;
    let package = workshop.package_with(SURFACE, "").await?;
    supervisor.deploy(AGENT, &package).await?;
    let backend = Backend::of(&supervisor).await?;
    let (new_sessions, memory) = new_sessions::measure(&backend, extent).await?;
    let warm = Warm::begin(&backend).await?;
    let throughput = warm.throughput(extent).await?;
    let cpu = warm.cpu(&backend, extent).await?;
    Ok(Execution {
        new_sessions,
        throughput,
        cpu,
        first_chunk: first_chunk::measure(&backend, extent).await?,
        memory,
    })
}

/// A worker whose agent is nothing else.
struct Backend {
    worker: AgentStatus,
    grpc: SocketAddr,
    channel: Channel,
}

impl Backend {
    async fn of(supervisor: &Supervisor) -> anyhow::Result<Self> {
        let worker = supervisor.settled(AGENT, SETTLED).await?;
        let grpc = SocketAddr::from((Ipv4Addr::LOCALHOST, worker.grpc_port));
        Ok(Self {
            worker,
            grpc,
            channel: Channel::open(grpc).await?,
        })
    }

    async fn end_session(&self, session: &str) -> anyhow::Result<()> {
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, self.worker.port));
        let answer = ask(http, &bare("DELETE", &format!("/sessions/{session}"))).await?;
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "answered {}: {body}", answer.status);
        Ok(())
    }

    fn interpreters(&self) -> anyhow::Result<Vec<u32>> {
        children(self.worker.pid, "par_session")
    }

    async fn memory(&self, sessions: usize) -> anyhow::Result<SessionMemory> {
        tokio::time::sleep(REST).await;
        let interpreters = self.interpreters()?;
        ensure!(
            interpreters.len() >= sessions,
            "{} interpreters have {sessions} sessions",
            interpreters.len()
        );
        let sizes: anyhow::Result<Vec<u64>> = interpreters.iter().map(|pid| memory(*pid)).collect();
        Ok(SessionMemory {
            sessions,
            interpreters: interpreters.len(),
            interpreter: sizes?.iter().sum::<u64>() / interpreters.len() as u64,
            worker: memory(self.worker.pid)?,
        })
    }
}

/// `1 + 1`
fn addition(session: &str) -> anyhow::Result<Request> {
    let asked = ExecuteRequest {
        code: "1 + 1".to_owned(),
        session_id: session.to_owned(),
    };
    Request::new(EXECUTE, None, &asked)
}

fn sum() -> ExecuteResponse {
    ExecuteResponse {
        success: true,
        results: [("_".to_owned(), Bytes::from_static(b"\x02"))].into(),
    }
}

/// As many sessions as runs at a time.
struct Warm {
    open: [Open; 1],
}

impl Warm {
    async fn begin(backend: &Backend) -> anyhow::Result<Self> {
        let sessions = (0..MOST).map(|number| addition(&format!("warm-{number}")));
        let requests = sessions.collect::<anyhow::Result<_>>()?;
        let call = GrpcCall::prove(backend.grpc, requests, &sum()).await?;
        Ok(Self {
            open: [Open {
                way: Way::Execute,
                call: Call::Grpc(Rc::new(call)),
            }],
        })
    }

    async fn throughput(&self, extent: &Extent) -> anyhow::Result<Vec<Throughput>> {
        rounds::interleaved("execution", &self.open, &NUMBERS, extent).await
    }

    async fn cpu(&self, backend: &Backend, extent: &Extent) -> anyhow::Result<Vec<CpuShare>> {
        progress("execution: processor time")?;
        let processes = [
            ("worker", vec![backend.worker.pid]),
            ("sessions", backend.interpreters()?),
            ("load generator", vec![std::process::id()]),
        ];
        let [open] = &self.open;
        cpu::shares(&open.call, MOST, &processes, extent).await
    }
}
