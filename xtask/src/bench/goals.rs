//! Where we want to stand, and whether we do. Ratios first: they mean the same on every machine.

use serde::Serialize;

use super::calls::{Calls, Latency, Throughput, rounds};
use super::door::Door;
use super::execution::Execution;
use super::findings::{Measured, Work};
use super::harness::Frames;
use super::idle::Idle;
use super::known::Known;
use super::lifecycle;
use super::peers::Way;
use super::size::Size;
use Unit::{Megabytes, Milliseconds, PerSecond, Percent, Times};
use Wanted::{AtLeast, AtMost};

#[derive(Serialize)]
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    /// `None`: the other side was missing.
    pub(crate) measured: Option<f64>,
    pub(crate) wanted: Wanted,
    pub(crate) unit: Unit,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Times,
    Percent,
    PerSecond,
    Milliseconds,
    Megabytes,
    Number,
}

impl Goal {
    pub(crate) fn is_reached(&self) -> Option<bool> {
        self.measured.map(|measured| match self.wanted {
            AtLeast(least) => measured >= least,
            AtMost(most) => measured <= most,
        })
    }
}

pub(crate) fn goals(measured: &Measured) -> Vec<Goal> {
    let work = measured.work.iter().flat_map(of_work);
    let lifecycle = measured.lifecycle.iter().flat_map(lifecycle::goals::goals);
    let door = measured.door.iter().flat_map(door);
    work.chain(lifecycle)
        .chain(door)
        .map(|(what, measured, wanted, unit)| Goal {
            what,
            measured,
            wanted,
            unit,
        })
        .collect()
}

fn of_work(work: &Work) -> Vec<Row> {
    [
        calls(&work.calls),
        grpc_calls(&work.grpc_calls),
        execution(&work.execution),
        routing(&work.known),
        frames(&work.harness),
        footprint(&work.idle, &work.size),
    ]
    .concat()
}

pub(super) type Row = (&'static str, Option<f64>, Wanted, Unit);

fn calls(calls: &Calls) -> Vec<Row> {
    let rate = |way, connections| calls.at(way, connections).map(|it| it.per_second);
    let ratio =
        |to, connections| Some(rate(Way::Supervisor, connections)? / rate(to, connections)?);
    let added = |value| calls.added(Way::Supervisor, value).map(|us| us / 1e3);
    vec![
        (
            "calls through the supervisor ÷ uvicorn + FastAPI, 64 at a time",
            ratio(Way::Uvicorn, 64),
            AtLeast(2.5),
            Times,
        ),
        (
            "calls through the supervisor ÷ nginx to the same worker, 64 at a time",
            ratio(Way::Nginx, 64),
            AtLeast(1.0),
            Times,
        ),
        (
            "calls through the supervisor ÷ nginx to the same worker, 16 at a time",
            ratio(Way::Nginx, 16),
            AtLeast(1.0),
            Times,
        ),
        (
            "calls through the supervisor ÷ nginx to the same worker, 1 at a time",
            ratio(Way::Nginx, 1),
            AtLeast(1.0),
            Times,
        ),
        (
            "calls through the supervisor, 64 at a time",
            rate(Way::Supervisor, 64),
            AtLeast(20_000.0),
            PerSecond,
        ),
        (
            "the supervisor adds to an idle call, p50",
            added(|it| it.p50_us),
            AtMost(0.1),
            Milliseconds,
        ),
        (
            "the supervisor adds to an idle call, p99",
            added(|it| it.p99_us),
            AtMost(0.5),
            Milliseconds,
        ),
    ]
}

fn grpc_calls(calls: &Calls) -> Vec<Row> {
    let rate = |way| calls.at(way, 64).map(|it| it.per_second);
    let ratio = |way| Some(rate(way)? / rate(Way::GrpcAio)?);
    vec![
        (
            "gRPC calls to the worker ÷ grpc.aio, 64 at a time",
            ratio(Way::WorkerGrpc),
            AtLeast(3.0),
            Times,
        ),
        (
            "the supervisor adds to an idle gRPC call, p50",
            calls
                .added(Way::SupervisorGrpc, |it| it.p50_us)
                .map(|us| us / 1e3),
            AtMost(0.15),
            Milliseconds,
        ),
    ]
}

fn execution(execution: &Execution) -> Vec<Row> {
    let warm = |at_a_time| rounds::find(&execution.throughput, Way::Execute, at_a_time);
    let new = &execution.new_sessions;
    vec![
        (
            "a new session's first answer, one after the other, median",
            Some(new.one_after_the_other.median_ms),
            AtMost(30.0),
            Milliseconds,
        ),
        (
            "`1 + 1` in a session, one at a time, p50",
            warm(1).map(|it| it.p50_us / 1e3),
            AtMost(1.0),
            Milliseconds,
        ),
        (
            "`1 + 1` in sessions, 16 at a time",
            warm(16).map(|it| it.per_second),
            AtLeast(2000.0),
            PerSecond,
        ),
        (
            "the first chunk of a stream, median",
            Some(execution.first_chunk.median_ms),
            AtMost(5.0),
            Milliseconds,
        ),
    ]
}

fn routing(known: &Known) -> Vec<Row> {
    vec![(
        "calls with 1,000 agents known ÷ calls with one",
        Some(known.ratio),
        AtLeast(0.95),
        Times,
    )]
}

fn door(door: &Door) -> Vec<Row> {
    vec![
        (
            "calls through the front door as usual ÷ without its limits",
            Some(door.usual_ratio),
            AtLeast(0.95),
            Times,
        ),
        (
            "calls through the front door with all limits ÷ without",
            Some(door.all_ratio),
            AtLeast(0.95),
            Times,
        ),
    ]
}

fn frames(harness: &[Frames]) -> Vec<Row> {
    let kept = |in_flight| {
        let mut alike = harness
            .iter()
            .filter(|it| it.in_flight == in_flight && it.peer == "sync");
        alike.next().map(|it| it.of_bare_loop * 100.0)
    };
    vec![
        (
            "of a bare Python loop's frames the harness keeps, one at a time",
            kept(1),
            AtLeast(60.0),
            Percent,
        ),
        (
            "of a bare Python loop's frames the harness keeps, 64 in flight",
            kept(64),
            AtLeast(60.0),
            Percent,
        ),
    ]
}

fn footprint(idle: &Idle, size: &Size) -> Vec<Row> {
    let megabytes = |bytes: u64| Some(bytes as f64 / 1e6);
    let (one, many) = (&idle.with_one, &idle.with_many);
    vec![
        (
            "idle memory of the supervisor",
            megabytes(one.supervisor),
            AtMost(20.0),
            Megabytes,
        ),
        (
            "idle memory of worker and agent, the only ones",
            megabytes(one.worker + one.agent),
            AtMost(15.0),
            Megabytes,
        ),
        (
            "idle memory of worker and agent, mean of ten",
            megabytes(many.worker + many.agent),
            AtMost(15.0),
            Megabytes,
        ),
        (
            "the program, stripped",
            size.stripped.and_then(megabytes),
            AtMost(30.0),
            Megabytes,
        ),
    ]
}

impl Calls {
    pub(crate) fn at(&self, way: Way, at_a_time: usize) -> Option<&Throughput> {
        rounds::find(&self.throughput, way, at_a_time)
    }

    /// What `way` adds to a direct call, in microseconds.
    pub(crate) fn added(&self, way: Way, value: fn(&Latency) -> f64) -> Option<f64> {
        let of = |way| self.latency.iter().find(|it| it.way == way).map(value);
        Some(of(way)? - of(way.direct())?)
    }
}
