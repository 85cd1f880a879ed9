//! What was found, as tables for people.

use super::calls::{Calls, CpuShare, Throughput, rounds};
use super::door::Door;
use super::execution::{Execution, SessionMemory};
use super::findings::{Findings, Work};
use super::goals::{Goal, Unit, Wanted};
use super::harness::Frames;
use super::idle::{Idle, Memory};
use super::known::{Known, Routing};
use super::lifecycle;
use super::machine::Machine;
use super::peers::{Missing, Way};
use super::size::Size;
use super::statistics::Spread;
use super::table::{Align, Table};

pub(crate) fn tables(findings: &Findings) -> Vec<Table> {
    let measured = &findings.measured;
    let mut tables = vec![against_goals(&findings.goals)];
    tables.extend(measured.work.iter().flat_map(of_work));
    tables.extend(
        measured
            .lifecycle
            .iter()
            .flat_map(lifecycle::report::tables),
    );
    tables.extend(measured.door.iter().map(door));
    tables.push(machine(&measured.machine));
    tables
}

fn of_work(work: &Work) -> Vec<Table> {
    let (calls, grpc) = (&work.calls, &work.grpc_calls);
    let mut tables = vec![];
    let absent = calls.missing.iter().chain(&grpc.missing);
    if absent.clone().next().is_some() {
        tables.push(missing(absent));
    }
    tables.extend(over_http(calls));
    tables.extend(over_grpc(grpc));
    tables.extend(in_sessions(&work.execution));
    tables.extend([
        routing(&work.known),
        frames(&work.harness),
        memory(&work.idle, calls),
        size(&work.size),
    ]);
    tables
}

fn over_http(calls: &Calls) -> [Table; 3] {
    let beside = [("÷ uvicorn", Way::Uvicorn), ("÷ nginx", Way::Nginx)];
    [
        throughput("Calls, as many as go", &calls.throughput, &beside),
        latency(
            "One call at a time, now this way, now that, to one worker",
            calls,
        ),
        cpu(
            "Processor time of a call through the supervisor, 64 at a time",
            &calls.cpu,
        ),
    ]
}

fn over_grpc(calls: &Calls) -> [Table; 3] {
    let beside = [("÷ grpc.aio", Way::GrpcAio)];
    [
        throughput("gRPC calls, as many as go", &calls.throughput, &beside),
        latency(
            "One gRPC call at a time, now this way, now that, to one worker",
            calls,
        ),
        cpu(
            "Processor time of a gRPC call through the supervisor, 64 at a time",
            &calls.cpu,
        ),
    ]
}

fn in_sessions(execution: &Execution) -> [Table; 4] {
    [
        throughput(
            "Runs in sessions, as many as go",
            &execution.throughput,
            &[],
        ),
        session_times(execution),
        cpu(
            "Processor time of a run in a session, 16 at a time",
            &execution.cpu,
        ),
        session_memory(&execution.memory),
    ]
}

fn against_goals(goals: &[Goal]) -> Table {
    let row = |goal: &Goal| {
        let wanted = match goal.wanted {
            Wanted::AtLeast(least) => format!("≥ {}", amount(least, goal.unit)),
            Wanted::AtMost(most) => format!("≤ {}", amount(most, goal.unit)),
        };
        let measured = goal.measured.map(|measured| amount(measured, goal.unit));
        let reached = match goal.is_reached() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "unknown",
        };
        vec![
            goal.what.to_owned(),
            measured.unwrap_or_else(|| "not measured".to_owned()),
            wanted,
            reached.to_owned(),
        ]
    };
    Table {
        title: "Against the goals",
        cells: Align::Right,
        columns: vec!["what", "measured", "wanted", "reached"],
        rows: goals.iter().map(row).collect(),
    }
}

/// `beside`: what each is compared with, below its heading.
fn throughput(title: &'static str, all: &[Throughput], beside: &[(&'static str, Way)]) -> Table {
    let row = |it: &Throughput| {
        let ratio = |(_, to): &(_, Way)| {
            let other = rounds::find(all, *to, it.at_a_time);
            other.map(|other| format!("{:.2}", it.per_second / other.per_second))
        };
        let what = format!("{}, {} at a time", it.way.words(), it.at_a_time);
        let mut row = vec![what];
        row.extend(beside.iter().map(|to| ratio(to).unwrap_or_default()));
        row.push(whole(it.per_second));
        row.extend([it.p50_us, it.p99_us].map(|us| milliseconds(us / 1e3)));
        row
    };
    let ratios = beside.iter().map(|(heading, _)| *heading);
    Table {
        title,
        cells: Align::Right,
        columns: ["way"]
            .into_iter()
            .chain(ratios)
            .chain(["calls/s", "p50", "p99"])
            .collect(),
        rows: all.iter().map(row).collect(),
    }
}

fn missing<'a>(missing: impl Iterator<Item = &'a Missing>) -> Table {
    let row = |it: &Missing| {
        let reason = it.reason.lines().next().unwrap_or_default();
        vec![it.way.words().to_owned(), reason.to_owned()]
    };
    Table {
        title: "Not measured",
        cells: Align::Left,
        columns: vec!["way", "why"],
        rows: missing.map(row).collect(),
    }
}

fn latency(title: &'static str, calls: &Calls) -> Table {
    let added = |way: Way, value| {
        let added = calls.added(way, value).filter(|_| way != way.direct());
        added.map_or_else(String::new, |us| format!("{:+.3} ms", us / 1e3))
    };
    let rows = calls.latency.iter().map(|it| {
        vec![
            it.way.words().to_owned(),
            milliseconds(it.p50_us / 1e3),
            milliseconds(it.p99_us / 1e3),
            added(it.way, |it| it.p50_us),
            added(it.way, |it| it.p99_us),
        ]
    });
    Table {
        title,
        cells: Align::Right,
        columns: vec!["way", "p50", "p99", "added p50", "added p99"],
        rows: rows.collect(),
    }
}

fn cpu(title: &'static str, shares: &[CpuShare]) -> Table {
    let rows = shares.iter().map(|share| {
        vec![
            share.process.to_owned(),
            format!("{:.1} µs", share.us_per_call),
            format!("{:.2}", share.cores),
        ]
    });
    Table {
        title,
        cells: Align::Right,
        columns: vec!["process", "per call", "cores"],
        rows: rows.collect(),
    }
}

fn session_times(execution: &Execution) -> Table {
    let row = |what: &str, spread: &Spread| {
        let values = [spread.min_ms, spread.median_ms, spread.max_ms];
        [what.to_owned(), spread.times.to_string()]
            .into_iter()
            .chain(values.map(milliseconds))
            .collect()
    };
    let new = &execution.new_sessions;
    Table {
        title: "Times of sessions",
        cells: Align::Right,
        columns: vec!["from a request to …", "times", "min", "median", "max"],
        rows: vec![
            row(
                "a new session's first answer, interpreters ready",
                &new.rested,
            ),
            row(
                "a new session's first answer, one after the other",
                &new.one_after_the_other,
            ),
            row("a new session's first answer, 16 at once", &new.at_once),
            row("the first chunk of a stream", &execution.first_chunk),
        ],
    }
}

fn session_memory(memory: &SessionMemory) -> Table {
    Table {
        title: "Memory of sessions that have nothing to do (PSS)",
        cells: Align::Right,
        columns: vec!["sessions", "interpreters", "worker", "each interpreter"],
        rows: vec![vec![
            memory.sessions.to_string(),
            memory.interpreters.to_string(),
            megabytes(memory.worker),
            megabytes(memory.interpreter),
        ]],
    }
}

fn frames(harness: &[Frames]) -> Table {
    let rows = harness.iter().map(|it| {
        vec![
            format!("{}, {} in flight", it.peer, it.in_flight),
            whole(it.per_second),
            format!("{:.0} %", it.of_bare_loop * 100.0),
        ]
    });
    Table {
        title: "A frame to Python and back, without worker and supervisor",
        cells: Align::Right,
        columns: vec!["handler", "frames/s", "of the bare loop"],
        rows: rows.collect(),
    }
}

fn memory(idle: &Idle, calls: &Calls) -> Table {
    let row = |memory: &Memory| {
        vec![
            format!("idle, agents: {}", memory.agents),
            megabytes(memory.supervisor),
            megabytes(memory.worker),
            megabytes(memory.agent),
            megabytes(memory.worker + memory.agent),
        ]
    };
    let afterwards = megabytes(calls.supervisor_memory_afterwards);
    Table {
        title: "Memory (PSS; worker and agent: mean)",
        cells: Align::Right,
        columns: vec!["when", "supervisor", "worker", "agent", "worker + agent"],
        rows: vec![
            row(&idle.with_one),
            row(&idle.with_many),
            vec!["after all calls of this run".to_owned(), afterwards],
        ],
    }
}

fn routing(known: &Known) -> Table {
    let row = |it: &Routing| {
        vec![
            format!("{} known, 16 calls at a time", it.agents),
            whole(it.per_second),
            milliseconds(it.p50_us / 1e3),
            milliseconds(it.publish_us / 1e3),
        ]
    };
    Table {
        title: "The gateway alone, before a worker that does nothing",
        cells: Align::Right,
        columns: vec!["agents", "calls/s", "p50", "to publish a change"],
        rows: [&known.with_one, &known.with_many].map(row).into(),
    }
}

fn door(door: &Door) -> Table {
    let row = |limits: &str, per_second: f64, ratio: Option<f64>| {
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}"));
        vec![limits.to_owned(), whole(per_second), ratio]
    };
    let framing = format!("{:.0} ns", door.framing_ns);
    Table {
        title: "The front door, before a worker that does nothing",
        cells: Align::Right,
        columns: vec!["limits", "calls/s", "÷ without, in the same round"],
        rows: vec![
            row("none", door.without, None),
            row("as usual", door.as_usual, Some(door.usual_ratio)),
            row(
                "all, with rates and names",
                door.with_all,
                Some(door.all_ratio),
            ),
            vec![
                "the framing of one request".to_owned(),
                framing,
                String::new(),
            ],
        ],
    }
}

fn size(size: &Size) -> Table {
    let stripped = size.stripped.map(megabytes);
    Table {
        title: "Size of the program",
        cells: Align::Right,
        columns: vec!["build", "size"],
        rows: vec![
            vec!["release, as built".to_owned(), megabytes(size.as_built)],
            vec![
                "release, stripped".to_owned(),
                stripped.unwrap_or_else(|| "there is no `strip`".to_owned()),
            ],
        ],
    }
}

fn machine(machine: &Machine) -> Table {
    let cores = machine.cores.to_string();
    let rows = [
        ("processor", &machine.processor),
        ("cores, shared with the load generator", &cores),
        ("kernel", &machine.kernel),
        ("load before", &machine.load_before),
        ("commit", &machine.commit),
        ("par", &machine.par),
        ("python", &machine.python),
        ("nginx", &machine.nginx),
        ("uvicorn", &machine.uvicorn),
        ("grpc.aio", &machine.grpc_aio),
    ];
    Table {
        title: "Measured on",
        cells: Align::Left,
        columns: vec!["what", "which"],
        rows: rows
            .map(|(what, which)| vec![what.to_owned(), which.clone()])
            .into(),
    }
}

fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Times => format!("{value:.2} ×"),
        Unit::Percent => format!("{value:.0} %"),
        Unit::PerSecond => format!("{}/s", whole(value)),
        Unit::Milliseconds => milliseconds(value),
        Unit::Number => whole(value),
        Unit::Megabytes => format!("{value:.1} MB"),
    }
}

pub(super) fn milliseconds(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.3} ms"),
        value => format!("{value:.0} ms"),
    }
}

pub(super) fn megabytes(bytes: u64) -> String {
    amount(bytes as f64 / 1e6, Unit::Megabytes)
}

/// `21,345`
pub(super) fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [7.0, 999.6, 12_345.0, 1_234_567.0].map(whole);
        assert_eq!(texts, ["7", "1,000", "12,345", "1,234,567"]);
    }
}
