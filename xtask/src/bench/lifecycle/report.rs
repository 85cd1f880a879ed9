//! What was found, as tables for people.

use super::asleep::Asleep;
use super::changes::Change;
use super::{Lifecycle, succession};
use crate::bench::report::{megabytes, milliseconds, whole};
use crate::bench::statistics::Spread;
use crate::bench::table::{Align, Table};

pub(crate) fn tables(lifecycle: &Lifecycle) -> Vec<Table> {
    let mut tables = vec![
        times(lifecycle),
        asleep(&lifecycle.asleep),
        changes(&lifecycle.changes),
    ];
    let went_wrong = went_wrong(&lifecycle.changes);
    tables.extend(Some(went_wrong).filter(|table| !table.rows.is_empty()));
    tables
}

fn times(lifecycle: &Lifecycle) -> Table {
    let row = |what: &str, spread: &Spread| {
        let values = [spread.min_ms, spread.median_ms, spread.max_ms];
        [what.to_owned(), spread.times.to_string()]
            .into_iter()
            .chain(values.map(milliseconds))
            .collect()
    };
    let (deploys, restarts) = (&lifecycle.deploys, &lifecycle.restarts);
    let (starts, asleep, wakes) = (&lifecycle.starts, &lifecycle.asleep, &lifecycle.wakes);
    let succession = format!(
        "start after kill -9 of the supervisor to answers of all {} agents",
        succession::AGENTS
    );
    let many = format!("start of the supervisor, {} agents known", asleep.agents);
    Table {
        title: "Times of life",
        cells: Align::Right,
        columns: vec!["from … to", "times", "min", "median", "max"],
        rows: vec![
            row(
                "deploy of a new package to its first answer",
                &deploys.new_package,
            ),
            row(
                "deploy of a known package to its first answer",
                &deploys.known_package,
            ),
            row(
                "kill -9 of the agent to the next answer",
                &restarts.of_agent,
            ),
            row(
                "kill -9 of the worker to the next answer",
                &restarts.of_worker,
            ),
            row(&succession, &lifecycle.succession),
            row("start of the supervisor, empty state folder", &starts.first),
            row("start of the supervisor, known state folder", &starts.again),
            row(&many, &asleep.starts),
            row(
                "… to the first answer of one of them",
                &asleep.first_answers,
            ),
            row(
                "call to an agent that is awake, new connection",
                &wakes.awake,
            ),
            row("first call to a frozen agent", &wakes.frozen),
            row("first call to an agent stopped on idle", &wakes.stopped),
        ],
    }
}

fn asleep(asleep: &Asleep) -> Table {
    Table {
        title: "Many agents, stopped on idle",
        cells: Align::Right,
        columns: vec![
            "agents",
            "deployed in",
            "supervisor (PSS)",
            "processes left",
            "their memory (PSS)",
        ],
        rows: vec![vec![
            asleep.agents.to_string(),
            format!("{:.1} s", asleep.deployed_in.as_secs_f64()),
            megabytes(asleep.supervisor),
            asleep.left.processes.to_string(),
            megabytes(asleep.left.memory),
        ]],
    }
}

fn changes(changes: &[Change]) -> Table {
    let row = |change: &Change| {
        let during = &change.during;
        let took = format!("{:.1} s", change.took.median_ms / 1e3);
        let counts = [change.calls, change.failures, change.streams, change.broken];
        let mut row = vec![format!("{}, {} ×", change.kind.words(), change.took.times)];
        row.push(took);
        row.extend(counts.map(|count| whole(count as f64)));
        row.push(whole(during.per_second));
        row.extend([during.p50_ms, during.p99_ms, during.max_ms].map(milliseconds));
        row
    };
    Table {
        title: "Changes under load",
        cells: Align::Right,
        columns: vec![
            "what happens",
            "takes",
            "calls",
            "failed",
            "streams",
            "broken",
            "calls/s meanwhile",
            "p50",
            "p99",
            "max",
        ],
        rows: changes.iter().map(row).collect(),
    }
}

fn went_wrong(changes: &[Change]) -> Table {
    let rows = changes.iter().flat_map(|change| {
        let told = change.told.iter();
        told.map(|what| vec![change.kind.words().to_owned(), what.clone()])
    });
    Table {
        title: "What went wrong under load, the first of it",
        cells: Align::Left,
        columns: vec!["while", "what"],
        rows: rows.collect(),
    }
}
