//! Who spends the processor's time of a call: what is full, and what would be worth making cheaper.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use crate::bench::extent::Extent;
use crate::bench::load::load;
use crate::bench::peers::supervisor::{AgentStatus, Supervisor};
use crate::bench::peers::{Open, Way};
use crate::bench::process::cpu_time;
use crate::bench::progress;

const CONNECTIONS: usize = 64;

#[derive(Serialize)]
pub(crate) struct CpuShare {
    pub(crate) process: &'static str,
    pub(crate) us_per_call: f64,
    /// 1: one core, all the time.
    pub(crate) cores: f64,
}

pub(super) async fn shares(
    open: &[Open],
    supervisor: &Supervisor,
    worker: &AgentStatus,
    extent: &Extent,
) -> anyhow::Result<Vec<CpuShare>> {
    progress("calls: processor time")?;
    let through = open.iter().find(|open| open.way == Way::Supervisor);
    let call = &through.context("the supervisor is always measured")?.call;
    let processes = [
        ("supervisor", supervisor.pid()?),
        ("worker", worker.pid),
        ("agent", worker.agent_pid),
        ("load generator", std::process::id()),
    ];
    let lasting = extent.round * 2;
    let before = times(&processes)?;
    let sample = load(call, CONNECTIONS, lasting).await?;
    let after = times(&processes)?;
    // The warm-up spent time, too.
    let seconds = lasting.as_secs_f64() + crate::bench::load::WARM_UP.as_secs_f64();
    let calls = sample.per_second * seconds;
    let spent = before.iter().zip(&after);
    let shares = processes
        .iter()
        .zip(spent)
        .map(|((process, _), (before, after))| {
            let spent = after.saturating_sub(*before).as_secs_f64();
            CpuShare {
                process,
                us_per_call: spent * 1e6 / calls,
                cores: spent / seconds,
            }
        });
    Ok(shares.collect())
}

fn times(processes: &[(&'static str, u32)]) -> anyhow::Result<Vec<Duration>> {
    processes.iter().map(|(_, pid)| cpu_time(*pid)).collect()
}
