//! `par logs`: what agents have written, and what they write now.

use clap::Args;
use par_model::api::{LogRecord, Logs as LogPage};
use par_model::log::Level;

use super::{Context, fleet, following};
use crate::client::segment;
use crate::terminal::{Style, Terminal, harmless};

/// Names are put below each other up to this width.
const WIDEST_NAME: usize = 24;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par logs                        the last lines of all agents\n  par logs hello -n 20            the last 20 of one\n  par logs hello asker -f         two agents, as they write\n  par logs --level error          what went wrong\n  par logs --since 10m --grep id  lines of the last ten minutes that have `id` in them\n  par logs --call 4f1c22aa-1f     what one call wrote: its answer says which in `x-request-id`"
)]
pub(crate) struct Logs {
    /// Agents, as `par ps` lists them; without one, all
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,

    /// Keep showing lines as they are written, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// Only lines at least as grave: debug, info, warning, error, critical
    #[arg(long)]
    level: Option<Level>,

    /// Only lines since then: so long ago, such as 10m, or a time, such as 2026-01-31T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Only lines with this text in them
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,

    /// Only lines that this call wrote
    #[arg(long, value_name = "ID")]
    call: Option<String>,

    /// How many of the last lines
    #[arg(short = 'n', long = "lines", default_value_t = 100)]
    lines: usize,
}

impl Logs {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let status = fleet::status(&context.client).await?;
        let mut agents = vec![];
        for name in &self.agents {
            let known = fleet::find(&status, name).ok_or_else(|| fleet::unknown(name))?;
            agents.push(known.agent_id.clone());
        }
        let shown: Vec<&str> = match agents.is_empty() {
            true => status
                .processes
                .values()
                .map(|it| it.agent_id.as_str())
                .collect(),
            false => agents.iter().map(String::as_str).collect(),
        };
        let widest = shown.iter().map(|name| name.len()).max();
        let screen = Screen {
            terminal: context.terminal,
            width: widest.unwrap_or_default().min(WIDEST_NAME),
        };
        let path = self.path(&agents);
        if self.follow {
            let show = |record: &LogRecord| screen.show(record);
            following::follow(context, &format!("{path}&follow=true"), show, |it| it.id).await
        } else {
            last(context, &path, screen).await
        }
    }

    fn path(&self, agents: &[String]) -> String {
        let mut path = format!("/supervisor/logs?limit={}", self.lines);
        let processes = agents.iter().map(|agent| format!("par-{agent}"));
        let conditions = [
            ("since", self.since.clone()),
            ("grep", self.grep.clone()),
            ("call", self.call.clone()),
            ("min_level", self.level.map(|level| name(level).to_owned())),
        ];
        let named = conditions
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        for (key, value) in processes
            .map(|process| ("process_id", process))
            .chain(named)
        {
            path.push_str(&format!("&{key}={}", segment(&value)));
        }
        path
    }
}

async fn last(context: &Context, path: &str, screen: Screen) -> anyhow::Result<()> {
    let page: LogPage = context.client.get(path).await?;
    for note in &page.notes {
        context.terminal.warn(note);
    }
    for record in page.logs.iter().rev() {
        screen.show(record)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Screen {
    terminal: Terminal,
    /// Of the names.
    width: usize,
}

impl Screen {
    fn show(self, record: &LogRecord) -> std::io::Result<()> {
        let terminal = self.terminal;
        if terminal.json {
            return terminal.print(&serde_json::to_string(record)?);
        }
        let agent = record
            .process_id
            .strip_prefix("par-")
            .unwrap_or(&record.process_id);
        let colours = terminal.out.colours;
        let level = Style::paint(style(record.level), name(record.level), colours);
        if terminal.out.width.is_none() {
            return terminal.print(&format!(
                "{} {agent} {level} {}",
                record.timestamp, record.message
            ));
        }
        let time = record
            .timestamp
            .split_once('T')
            .map_or(record.timestamp.as_str(), |(_, time)| time);
        let time = Style::Faint.paint(time.trim_end_matches('Z'), colours);
        let padded = format!("{agent:width$}", width = self.width);
        let agent = Style::Strong.paint(&padded, colours);
        terminal.print(&format!(
            "{time} {agent} {level} {}",
            harmless(&record.message)
        ))
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Debug => "DEBUG",
        Level::Info => "INFO",
        Level::Warning => "WARNING",
        Level::Error => "ERROR",
        Level::Critical => "CRITICAL",
    }
}

fn style(level: Level) -> Style {
    match level {
        Level::Debug | Level::Info => Style::Faint,
        Level::Warning => Style::Warning,
        Level::Error | Level::Critical => Style::Bad,
    }
}
