//! `par ps`: the agents and how they are.

use clap::Args;
use par_model::ProcessState;
use par_model::api::{IdleState, Memory, ProcessStatus, RolloutStatus, SupervisorStatus};
use par_model::limits::Limit;

use super::{Context, fleet};
use crate::terminal::{Cell, Column, Row, Style, Table, bytes, duration};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par ps            all agents\n  par ps hello      one agent, with the traceback of its failure\n  par ps --json     everything that is known, for programs"
)]
pub(crate) struct Ps {
    /// Only this agent
    agent: Option<String>,

    /// With what keeps each agent apart, and what does not
    #[arg(long, short)]
    wide: bool,
}

const fn column(title: &'static str, right: bool, dispensable: u8) -> Column {
    Column {
        title,
        right,
        least: None,
        dispensable,
    }
}

const COLUMNS: [Column; 9] = [
    Column {
        least: Some(8),
        ..column("AGENT", false, 0)
    },
    column("STATE", false, 0),
    column("REL", true, 7),
    column("PORT", true, 1),
    column("UPTIME", true, 3),
    column("RESTARTS", true, 2),
    column("MEM", true, 4),
    column("CPU", true, 5),
    Column {
        least: Some(10),
        ..column("PACKAGE", false, 6)
    },
];

impl Ps {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let progress = context.terminal.progress();
        progress.say("asking the supervisor");
        let status = progress.during(fleet::status(&context.client)).await?;
        match &self.agent {
            Some(name) => one(context, &status, name),
            None => all(context, &status, self.wide),
        }
    }
}

fn one(context: &Context, status: &SupervisorStatus, name: &str) -> anyhow::Result<()> {
    let process = fleet::find(status, name).ok_or_else(|| fleet::unknown(name))?;
    if context.terminal.json {
        context.terminal.print_json(process)?;
        return Ok(());
    }
    let mut below = reasons(process);
    below.extend(isolation(process));
    let limits = process.limits.iter();
    below.extend(limits.map(|limit| Cell::new(limit.to_string(), shade(limit))));
    if let Some(traceback) = &process.traceback {
        below.push(Cell::new(traceback.trim_end(), Style::Faint));
    }
    print(context, vec![Row::new(cells(process), below)])
}

fn all(context: &Context, status: &SupervisorStatus, wide: bool) -> anyhow::Result<()> {
    let terminal = context.terminal;
    if terminal.json {
        terminal.print_json(status)?;
        return Ok(());
    }
    if status.processes.is_empty() {
        terminal.note(&format!(
            "no agents yet: bring one up with `{}`",
            context.par("deploy FILE|FOLDER")
        ));
        return Ok(());
    }
    let row = |process| {
        let mut below = reasons(process);
        below.extend(isolation(process).filter(|_| wide));
        Row::new(cells(process), below)
    };
    print(context, status.processes.values().map(row).collect())
}

fn print(context: &Context, rows: Vec<Row>) -> anyhow::Result<()> {
    let table = Table {
        columns: &COLUMNS,
        rows,
    };
    let text = table.render(context.terminal.out);
    context.terminal.print(&text)?;
    Ok(())
}

fn cells(process: &ProcessStatus) -> Vec<Cell> {
    let known = |figure: Option<String>| Cell::from(figure.unwrap_or_else(|| "-".to_owned()));
    let resources = process.resources.as_ref();
    vec![
        Cell::new(&process.agent_id, Style::Strong),
        Cell::new(state(process), style(process)),
        process.release.to_string().into(),
        known(process.port.map(|port| port.to_string())),
        known(process.uptime.map(duration)),
        process.restart_count.to_string().into(),
        known(resources.map(|r| memory(&r.memory))),
        known(resources.map(|r| format!("{:.1}%", r.cpu.percent))),
        process.package_id.as_str().into(),
    ]
}

/// What the agent's tree has and, where that is limited, what of it counts and how much is allowed.
fn memory(memory: &Memory) -> String {
    let fair = memory.pss_bytes.unwrap_or(memory.rss_bytes);
    match (memory.limited_bytes, memory.limit_bytes) {
        (Some(used), Some(most)) => format!("{}/{}", bytes(used), bytes(most)).replace(' ', ""),
        _ => bytes(fair),
    }
}

/// With how many of the replicas are there, if there are several.
fn state(process: &ProcessStatus) -> String {
    let word = match process.idle {
        Some(IdleState::Frozen) => "frozen",
        Some(IdleState::Stopped) => "idle",
        None => process.state.as_str(),
    };
    let own = process.instances.iter();
    let there = own
        .filter(|it| it.release == process.release && it.state == process.state)
        .count();
    match process.replicas {
        0 | 1 => word.to_owned(),
        all => format!("{word} {there}/{all}"),
    }
}

fn style(process: &ProcessStatus) -> Style {
    match process.state {
        _ if process.idle.is_some() => Style::Faint,
        ProcessState::Running => Style::Good,
        ProcessState::Starting | ProcessState::Stopping => Style::Warning,
        ProcessState::Stopped => Style::Faint,
        ProcessState::Failed | ProcessState::Crashed => Style::Bad,
    }
}

fn isolation(process: &ProcessStatus) -> Option<Cell> {
    let isolation = process.isolation.as_ref()?;
    let style = match isolation.missing.is_empty() {
        true => Style::Faint,
        false => Style::Warning,
    };
    Some(Cell::new(isolation.to_string(), style))
}

fn shade(limit: &Limit) -> Style {
    if limit.held {
        Style::Faint
    } else {
        Style::Warning
    }
}

/// What is said below an agent's row.
fn reasons(process: &ProcessStatus) -> Vec<Cell> {
    let mut below = vec![];
    if let (ProcessState::Starting, Some(progress)) = (process.state, &process.progress) {
        below.push(Cell::new(progress, Style::Faint));
    }
    if let Some(error) = &process.error {
        below.push(Cell::new(error, Style::Bad));
    }
    if let Some(canary) = &process.canary {
        let what = match canary.ready {
            true => "takes",
            false => "comes up to take",
        };
        let line = format!(
            "release {}: {what} {} % of the calls",
            canary.release, canary.percent
        );
        below.push(Cell::new(line, Style::Warning));
    }
    match &process.rollout {
        Some(RolloutStatus {
            release,
            error: None,
        }) => below.push(Cell::new(
            format!("release {release} comes up"),
            Style::Warning,
        )),
        Some(RolloutStatus {
            release,
            error: Some(error),
        }) => {
            let line = format!("release {release} did not take its place: {error}");
            below.push(Cell::new(line, Style::Faint));
        }
        None => {}
    }
    let not_held = process.limits.iter().filter(|limit| !limit.held);
    let not_held: Vec<String> = not_held.map(|limit| limit.name.to_string()).collect();
    if !not_held.is_empty() {
        let words = format!("limits that do not hold here: {}", not_held.join(", "));
        below.push(Cell::new(words, Style::Warning));
    }
    if let Some(seconds) = process.restart_in {
        let soon = format!("restarts in {}", duration(seconds.ceil()));
        below.push(Cell::new(soon, Style::Faint));
    }
    below
}
