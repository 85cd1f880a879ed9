//! Many agents that nobody calls: what is left of them, and what the supervisor that knows them takes.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::bench::answer::post_json;
use crate::bench::connection::ask;
use crate::bench::extent::Extent;
use crate::bench::peers::supervisor::{Supervisor, invoke_path};
use crate::bench::process::{descendants, memory};
use crate::bench::progress;
use crate::bench::statistics::Spread;
use crate::bench::workshop::Workshop;

pub(super) const AGENTS: usize = 200;
const AT_A_TIME: usize = 8;
const EXAMPLE: &str = "hello";
/// Until an agent is frozen, and from then on until it is stopped: longer than it takes to start beside others.
const IDLE_SECONDS: f64 = 3.0;
const TIME_TO_SLEEP: Duration = Duration::from_secs(60);
/// What was begun while they fell asleep is over by then.
const REST: Duration = Duration::from_secs(2);

#[derive(Serialize)]
pub(crate) struct Asleep {
    pub(crate) agents: usize,
    /// From the first byte of the first deployment to the answer to the last one.
    pub(crate) deployed_in: Duration,
    /// Of the supervisor, in bytes.
    pub(crate) supervisor: u64,
    pub(crate) left: Left,
    /// Of a supervisor that knows them all, until it serves.
    pub(crate) starts: Spread,
    /// … until one of them has answered.
    pub(crate) first_answers: Spread,
}

/// What there still is of agents that are asleep.
#[derive(Serialize)]
pub(crate) struct Left {
    pub(crate) processes: usize,
    /// In bytes.
    pub(crate) memory: u64,
}

pub(super) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Asleep> {
    progress("many agents asleep")?;
    let home = workshop.room()?;
    let supervisor = Rc::new(Supervisor::start(&workshop.par, &home).await?);
    let begun = Instant::now();
    deploy_all(&supervisor, workshop.example(EXAMPLE).await?).await?;
    let deployed_in = begun.elapsed();
    all_asleep(&supervisor).await?;
    tokio::time::sleep(REST).await;
    let pid = supervisor.pid()?;
    let (memory, left) = (memory(pid)?, left(pid)?);
    answers(&supervisor).await?;
    // It has to end before the next one can begin.
    drop(supervisor);
    let (starts, first_answers) = start_again(&workshop.par, &home, extent).await?;
    Ok(Asleep {
        agents: AGENTS,
        deployed_in,
        supervisor: memory,
        left,
        starts,
        first_answers,
    })
}

fn agent(number: usize) -> String {
    format!("sleeper-{number}")
}

async fn deploy_all(supervisor: &Rc<Supervisor>, package: Vec<u8>) -> anyhow::Result<()> {
    let package: Rc<[u8]> = package.into();
    let mut deploying = JoinSet::new();
    for first in 0..AT_A_TIME {
        let (supervisor, package) = (Rc::clone(supervisor), Rc::clone(&package));
        deploying.spawn_local(async move {
            let idle = json!({
                "idle_timeout_seconds": IDLE_SECONDS,
                "idle_stop_seconds": IDLE_SECONDS,
            });
            for number in (first..AGENTS).step_by(AT_A_TIME) {
                let agent = agent(number);
                let deployed = supervisor.deploy_with(&agent, &package, idle.clone());
                deployed.await.with_context(|| agent.clone())?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(deployed) = deploying.join_next().await {
        deployed.context("a deployment panicked")??;
    }
    Ok(())
}

async fn all_asleep(supervisor: &Supervisor) -> anyhow::Result<()> {
    let give_up = Instant::now() + TIME_TO_SLEEP;
    loop {
        let processes = supervisor.processes().await?;
        let awake = |process: &&Value| process["idle"] != "stopped";
        let agents = processes.as_object().context("no agents are known")?;
        ensure!(agents.len() == AGENTS, "{} agents are known", agents.len());
        let Some(one) = agents.values().find(awake) else {
            return Ok(());
        };
        let many = agents.values().filter(awake).count();
        ensure!(Instant::now() < give_up, "{many} do not fall asleep: {one}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// A process that ends meanwhile takes nothing.
fn left(supervisor: u32) -> anyhow::Result<Left> {
    let processes = descendants(supervisor)?;
    let sizes = processes.iter().filter_map(|pid| memory(*pid).ok());
    Ok(Left {
        processes: processes.len(),
        memory: sizes.sum(),
    })
}

/// Asks the last one.
async fn answers(supervisor: &Supervisor) -> anyhow::Result<()> {
    let call = post_json(&invoke_path(&agent(AGENTS - 1)), &json!({}));
    let answer = ask(supervisor.address, &call).await?;
    let body = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == 200, "answered {}: {body}", answer.status);
    Ok(())
}

async fn start_again(par: &Path, home: &Path, extent: &Extent) -> anyhow::Result<(Spread, Spread)> {
    let (mut starts, mut first_answers) = (vec![], vec![]);
    for _ in 0..extent.returns {
        let begun = Instant::now();
        let supervisor = Supervisor::start(par, home).await?;
        starts.push(supervisor.started_in);
        answers(&supervisor).await?;
        first_answers.push(begun.elapsed());
        // Whatever was started is to end in order.
        all_asleep(&supervisor).await?;
    }
    Ok((Spread::of(&starts), Spread::of(&first_answers)))
}
