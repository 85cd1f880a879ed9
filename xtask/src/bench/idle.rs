//! Memory of processes that have nothing to do.

use std::time::Duration;

use serde::Serialize;

use super::peers::supervisor::{AgentStatus, Supervisor};
use super::process::memory;
use super::progress;
use super::workshop::Workshop;

const SOURCE: &str = "def invoke(body):\n    return {\"x\": body[\"x\"]}\n";
const MANY: usize = 10;
/// What was begun while they started is over by then.
const REST: Duration = Duration::from_secs(2);

/// Proportional set sizes in bytes.
#[derive(Serialize)]
pub(crate) struct Idle {
    pub(crate) with_one: Memory,
    pub(crate) with_many: Memory,
}

#[derive(Serialize)]
pub(crate) struct Memory {
    pub(crate) agents: usize,
    pub(crate) supervisor: u64,
    /// Means over the agents.
    pub(crate) worker: u64,
    pub(crate) agent: u64,
}

pub(crate) async fn measure(workshop: &Workshop) -> anyhow::Result<Idle> {
    progress("idle memory")?;
    let supervisor = workshop.supervisor().await?;
    let package = workshop.package(SOURCE).await?;
    let mut agents = vec![];
    agents.push(bring_up(&supervisor, 0, &package).await?);
    let with_one = look(&supervisor, &agents).await?;
    for number in 1..MANY {
        agents.push(bring_up(&supervisor, number, &package).await?);
    }
    let with_many = look(&supervisor, &agents).await?;
    Ok(Idle {
        with_one,
        with_many,
    })
}

async fn bring_up(
    supervisor: &Supervisor,
    number: usize,
    package: &[u8],
) -> anyhow::Result<AgentStatus> {
    let agent = format!("idle-{number}");
    supervisor.deploy(&agent, package).await?;
    supervisor.settled(&agent, Duration::ZERO).await
}

async fn look(supervisor: &Supervisor, agents: &[AgentStatus]) -> anyhow::Result<Memory> {
    tokio::time::sleep(REST).await;
    let mean = |pid: fn(&AgentStatus) -> u32| {
        let sizes: anyhow::Result<Vec<u64>> =
            agents.iter().map(|agent| memory(pid(agent))).collect();
        anyhow::Ok(sizes?.iter().sum::<u64>() / agents.len() as u64)
    };
    Ok(Memory {
        agents: agents.len(),
        supervisor: memory(supervisor.pid()?)?,
        worker: mean(|agent| agent.pid)?,
        agent: mean(|agent| agent.agent_pid)?,
    })
}
