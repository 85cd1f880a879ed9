//! Who spends the processor's time of a call: what is full, and what would be worth making cheaper.

use std::time::Duration;

use serde::Serialize;

use crate::bench::call::Call;
use crate::bench::extent::Extent;
use crate::bench::load::{WARM_UP, load};
use crate::bench::process::cpu_time;

#[derive(Serialize)]
pub(crate) struct CpuShare {
    pub(crate) process: &'static str,
    pub(crate) us_per_call: f64,
    /// 1: one core, all the time.
    pub(crate) cores: f64,
}

/// Of a call with `at_a_time` of them under way; each process by its name, or several by one.
pub(crate) async fn shares(
    call: &Call,
    at_a_time: usize,
    processes: &[(&'static str, Vec<u32>)],
    extent: &Extent,
) -> anyhow::Result<Vec<CpuShare>> {
    let lasting = extent.round * 2;
    let before = times(processes)?;
    let sample = load(call, at_a_time, lasting).await?;
    let after = times(processes)?;
    // The warm-up spent time, too.
    let seconds = (lasting + WARM_UP).as_secs_f64();
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

fn times(processes: &[(&'static str, Vec<u32>)]) -> anyhow::Result<Vec<Duration>> {
    let time = |(_, pids): &(_, Vec<u32>)| pids.iter().map(|pid| cpu_time(*pid)).sum();
    processes.iter().map(time).collect()
}
