//! Throughput: rounds in which each way has its turn, so that a machine that becomes slower does so for all.

use anyhow::Context as _;
use serde::Serialize;

use crate::bench::extent::Extent;
use crate::bench::load::{Sample, load};
use crate::bench::peers::{Open, Way};
use crate::bench::progress;
use crate::bench::statistics::median;

/// One way at one concurrency: medians over its rounds.
#[derive(Serialize)]
pub(crate) struct Throughput {
    pub(crate) way: Way,
    pub(crate) at_a_time: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    rounds: Vec<Sample>,
}

pub(crate) async fn interleaved(
    what: &str,
    open: &[Open],
    numbers: &[usize],
    extent: &Extent,
) -> anyhow::Result<Vec<Throughput>> {
    let mut all = vec![];
    for &at_a_time in numbers {
        let mut samples: Vec<Vec<Sample>> = open.iter().map(|_| vec![]).collect();
        for round in 1..=extent.rounds {
            progress(&format!("{what}: {at_a_time} at a time, round {round}"))?;
            for (open, samples) in open.iter().zip(&mut samples) {
                let sample = load(&open.call, at_a_time, extent.round).await;
                let what = || format!("{}, {at_a_time} at a time", open.way.words());
                samples.push(sample.with_context(what)?);
            }
        }
        let summed = open.iter().zip(samples);
        all.extend(summed.map(|(open, rounds)| sum_up(open.way, at_a_time, rounds)));
    }
    Ok(all)
}

/// That of `way` with so many calls at a time.
pub(crate) fn find(throughput: &[Throughput], way: Way, at_a_time: usize) -> Option<&Throughput> {
    let mut all = throughput.iter();
    all.find(|it| it.way == way && it.at_a_time == at_a_time)
}

fn sum_up(way: Way, at_a_time: usize, rounds: Vec<Sample>) -> Throughput {
    let over = |value: fn(&Sample) -> f64| median(rounds.iter().map(value).collect());
    Throughput {
        way,
        at_a_time,
        per_second: over(|sample| sample.per_second),
        p50_us: over(|sample| sample.p50_us),
        p99_us: over(|sample| sample.p99_us),
        rounds,
    }
}
