//! Where we want to stand.

use super::Lifecycle;
use super::changes::{Change, Kind};
use crate::bench::goals::Row;
use crate::bench::goals::Unit::{Megabytes, Milliseconds, Number};
use crate::bench::goals::Wanted::AtMost;

pub(crate) fn goals(lifecycle: &Lifecycle) -> Vec<Row> {
    [
        comings(lifecycle),
        asleep(lifecycle),
        wakes(lifecycle),
        changes(&lifecycle.changes),
    ]
    .concat()
}

fn milliseconds(what: &'static str, measured: f64, most: f64) -> Row {
    (what, Some(measured), AtMost(most), Milliseconds)
}

fn comings(lifecycle: &Lifecycle) -> Vec<Row> {
    let (deploys, restarts) = (&lifecycle.deploys, &lifecycle.restarts);
    vec![
        milliseconds(
            "deploy of a new package to its first answer, median",
            deploys.new_package.median_ms,
            150.0,
        ),
        milliseconds(
            "kill -9 of the agent to the next answer, median",
            restarts.of_agent.median_ms,
            250.0,
        ),
        milliseconds(
            "kill -9 of the worker to the next answer, median",
            restarts.of_worker.median_ms,
            250.0,
        ),
        milliseconds(
            "kill -9 of the supervisor: start of the next to answers of all 8 agents, slowest",
            lifecycle.succession.max_ms,
            1000.0,
        ),
        milliseconds(
            "start of the supervisor, median",
            lifecycle.starts.first.median_ms,
            50.0,
        ),
    ]
}

fn asleep(lifecycle: &Lifecycle) -> Vec<Row> {
    let asleep = &lifecycle.asleep;
    let megabytes = |bytes: u64| Some(bytes as f64 / 1e6);
    vec![
        (
            "memory of the supervisor of 200 agents that are stopped on idle",
            megabytes(asleep.supervisor),
            AtMost(40.0),
            Megabytes,
        ),
        (
            "their processes",
            Some(asleep.left.processes as f64),
            AtMost(0.0),
            Number,
        ),
        (
            "their memory",
            megabytes(asleep.left.memory),
            AtMost(0.0),
            Megabytes,
        ),
    ]
}

fn wakes(lifecycle: &Lifecycle) -> Vec<Row> {
    let (frozen, stopped) = (&lifecycle.wakes.frozen, &lifecycle.wakes.stopped);
    vec![
        milliseconds(
            "first call to a frozen agent, median",
            frozen.median_ms,
            10.0,
        ),
        milliseconds("first call to a frozen agent, slowest", frozen.max_ms, 10.0),
        milliseconds(
            "first call to an agent stopped on idle, median",
            stopped.median_ms,
            200.0,
        ),
        milliseconds(
            "first call to an agent stopped on idle, slowest",
            stopped.max_ms,
            200.0,
        ),
    ]
}

fn changes(changes: &[Change]) -> Vec<Row> {
    changes.iter().flat_map(change).collect()
}

fn change(change: &Change) -> Vec<Row> {
    let [calls, streams] = match change.kind {
        Kind::Nothing => return vec![],
        Kind::Release => [
            "calls that failed while releases rolled, 1,000 a second",
            "streams that broke while releases rolled, 100 open",
        ],
        Kind::Scale => [
            "calls that failed while replicas came and went, 1,000 a second",
            "streams that broke while replicas came and went, 100 open",
        ],
        Kind::Upgrade => [
            "calls that failed during `par upgrade`, 1,000 a second",
            "streams that broke during `par upgrade`, 100 open",
        ],
    };
    let none = |what, many: usize| (what, Some(many as f64), AtMost(0.0), Number);
    vec![none(calls, change.failures), none(streams, change.broken)]
}
