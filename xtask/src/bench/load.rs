//! A closed loop: each caller sends its next request when the answer to the last one is there and right.
//!
//! One thread sends prepared bytes and looks at no more of an answer than its status, its length and its body, because
//! the time that it takes is taken from those it measures.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tokio::task::JoinSet;

use super::call::{Call, Caller};
use super::statistics::{percentile, sorted};

/// Before counting begins: connections are opened and pools are filled.
pub(crate) const WARM_UP: Duration = Duration::from_millis(200);

/// What was seen in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) calls: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

pub(crate) async fn load(
    call: &Call,
    at_a_time: usize,
    lasting: Duration,
) -> anyhow::Result<Sample> {
    let callers = call.callers(at_a_time).await?;
    let begin = Instant::now() + WARM_UP;
    let end = begin + lasting;
    let mut loops = JoinSet::new();
    for caller in callers {
        loops.spawn_local(repeat(caller, begin, end));
    }
    let mut latencies = vec![];
    while let Some(ended) = loops.join_next().await {
        latencies.extend(ended.context("a loop of the load panicked")??);
    }
    let latencies = sorted(latencies);
    Ok(Sample {
        calls: latencies.len(),
        per_second: latencies.len() as f64 / lasting.as_secs_f64(),
        p50_us: percentile(&latencies, 0.5),
        p99_us: percentile(&latencies, 0.99),
    })
}

/// The latencies, in microseconds, of the calls that were answered between `begin` and `end`.
async fn repeat(mut caller: Caller, begin: Instant, end: Instant) -> anyhow::Result<Vec<f64>> {
    let mut latencies = vec![];
    let mut sent = Instant::now();
    while sent < end {
        caller.call().await?;
        let answered = Instant::now();
        if answered >= begin && answered < end {
            latencies.push((answered - sent).as_secs_f64() * 1e6);
        }
        sent = answered;
    }
    Ok(latencies)
}
