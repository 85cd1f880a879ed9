//! From `kill -9` to the next answer, for a caller who keeps asking.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use rustix::process::Signal;
use serde::Serialize;
use serde_json::{Value, json};

use super::answer::post_json;
use super::connection::ask;
use super::extent::Extent;
use super::peers::supervisor::{AgentStatus, Supervisor, invoke_path};
use super::process::end;
use super::progress;
use super::statistics::Spread;
use super::workshop::Workshop;

const AGENT: &str = "mortal";
/// Its answer tells one incarnation from the next.
pub(super) const SOURCE: &str =
    "import os\n\n\ndef invoke(body):\n    return {\"pid\": os.getpid()}\n";
/// Longer than the supervisor needs to forget the last crash.
pub(super) const STABLE: Duration = Duration::from_millis(300);
pub(super) const TIME_TO_RETURN: Duration = Duration::from_secs(30);

#[derive(Serialize)]
pub(crate) struct Restarts {
    pub(crate) of_agent: Spread,
    pub(crate) of_worker: Spread,
}

pub(crate) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Restarts> {
    progress("kill -9 to the next answer")?;
    let supervisor = workshop.supervisor().await?;
    let package = workshop.package(SOURCE).await?;
    let patient = json!({ "max_restarts_in_period": 1000 });
    supervisor.deploy_with(AGENT, &package, patient).await?;
    let (mut of_agent, mut of_worker) = (vec![], vec![]);
    for _ in 0..extent.kills {
        of_agent.push(kill(&supervisor, |status| status.agent_pid).await?);
        of_worker.push(kill(&supervisor, |status| status.pid).await?);
    }
    Ok(Restarts {
        of_agent: Spread::of(&of_agent),
        of_worker: Spread::of(&of_worker),
    })
}

async fn kill(
    supervisor: &Supervisor,
    victim: fn(&AgentStatus) -> u32,
) -> anyhow::Result<Duration> {
    let status = supervisor.settled(AGENT, STABLE).await?;
    let call = post_json(&invoke_path(AGENT), &json!({}));
    let before = pid_that_answers(supervisor.address, &call).await?;
    ensure!(
        before == Some(status.agent_pid),
        "{before:?} answers for {status:?}"
    );
    let killed = Instant::now();
    end(victim(&status), Signal::KILL)?;
    while killed.elapsed() < TIME_TO_RETURN {
        let now = pid_that_answers(supervisor.address, &call).await?;
        if now.is_some() && now != before {
            return Ok(killed.elapsed());
        }
        // Leaves the processor to the one that starts.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("not back {TIME_TO_RETURN:?} after it was killed: {status:?}")
}

/// `None` when the call is refused.
pub(super) async fn pid_that_answers(
    address: SocketAddr,
    call: &[u8],
) -> anyhow::Result<Option<u32>> {
    let answer = ask(address, call).await?;
    let body: Value = serde_json::from_slice(&answer.body)?;
    let pid = body["pid"].as_u64().filter(|_| answer.status == 200);
    Ok(pid.map(u32::try_from).transpose()?)
}
