//! `kill -9` of the supervisor: from the start of the next one until all agents have answered. They have to be the same
//! processes as before.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use serde_json::json;

use crate::bench::extent::Extent;
use crate::bench::peers::supervisor::Supervisor;
use crate::bench::progress;
use crate::bench::restart::{SOURCE, STABLE, TIME_TO_RETURN, pid_that_answers};
use crate::bench::statistics::Spread;
use crate::bench::workshop::Workshop;
use crate::bench::{answer::post_json, peers::supervisor::invoke_path};

pub(super) const AGENTS: usize = 8;

pub(super) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Spread> {
    progress("kill -9 of the supervisor")?;
    let home = workshop.room()?;
    let mut supervisor = Supervisor::start(&workshop.par, &home).await?;
    let package = workshop.package(SOURCE).await?;
    for number in 0..AGENTS {
        supervisor.deploy(&agent(number), &package).await?;
    }
    let mut times = vec![];
    for _ in 0..extent.returns {
        for number in 0..AGENTS {
            supervisor.settled(&agent(number), STABLE).await?;
        }
        let before = all(supervisor.address).await?;
        supervisor.kill()?;
        let begun = Instant::now();
        supervisor = Supervisor::start(&workshop.par, &home).await?;
        let after = all(supervisor.address).await?;
        times.push(begun.elapsed());
        ensure!(before == after, "{before:?} went on as {after:?}");
    }
    Ok(Spread::of(&times))
}

fn agent(number: usize) -> String {
    format!("orphan-{number}")
}

/// The process of each agent, as it answers.
async fn all(address: SocketAddr) -> anyhow::Result<Vec<u32>> {
    let give_up = Instant::now() + TIME_TO_RETURN;
    let mut pids = vec![];
    while pids.len() < AGENTS {
        let call = post_json(&invoke_path(&agent(pids.len())), &json!({}));
        match pid_that_answers(address, &call).await? {
            Some(pid) => pids.push(pid),
            None if Instant::now() > give_up => bail!("`{}` does not answer", agent(pids.len())),
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    Ok(pids)
}
