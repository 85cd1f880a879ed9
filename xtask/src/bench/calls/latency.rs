//! What a way adds to a call on an idle machine: one call at a time, now this way, now that, so that all
//! see the same moments.

use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

use crate::bench::extent::Extent;
use crate::bench::peers::{Open, Way};
use crate::bench::progress;
use crate::bench::statistics::{percentile, sorted};

/// Calls of each way before counting begins.
const WARM_UP: usize = 200;

#[derive(Serialize)]
pub(crate) struct Latency {
    pub(crate) way: Way,
    pub(crate) calls: usize,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

pub(super) async fn side_by_side(
    what: &str,
    open: &[Open],
    extent: &Extent,
) -> anyhow::Result<Vec<Latency>> {
    progress(&format!(
        "{what}: one at a time, the ways to one worker in turn"
    ))?;
    let mut tracks = vec![];
    for open in open
        .iter()
        .filter(|open| open.way.leads_to_the_same_worker())
    {
        for caller in open.call.callers(1).await? {
            tracks.push((open, caller, vec![]));
        }
    }
    let mut lots = Lots(1);
    let end = Instant::now() + extent.latency;
    while Instant::now() < end {
        let lot = lots.draw() % tracks.len();
        let (open, caller, latencies) = &mut tracks[lot];
        let sent = Instant::now();
        let made = caller.call().await;
        latencies.push(sent.elapsed().as_secs_f64() * 1e6);
        made.with_context(|| format!("{}, one at a time", open.way.words()))?;
    }
    let tracks = tracks.into_iter();
    Ok(tracks
        .map(|(open, _, times)| sum_up(open.way, times))
        .collect())
}

/// Draws the next way. Were they to take turns, each would follow the same one always, and find its caches as that
/// one left them.
struct Lots(u64);

impl Lots {
    /// Marsaglia's xorshift.
    fn draw(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize
    }
}

fn sum_up(way: Way, latencies: Vec<f64>) -> Latency {
    let counted = latencies.into_iter().skip(WARM_UP).collect();
    let sorted = sorted(counted);
    Latency {
        way,
        calls: sorted.len(),
        p50_us: percentile(&sorted, 0.5),
        p99_us: percentile(&sorted, 0.99),
    }
}
