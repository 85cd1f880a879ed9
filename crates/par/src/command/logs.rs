//! `par logs`: what agents have written, and what they write now.

use bytes::Bytes;
use clap::Args;
use http::Method;
use http_body_util::Empty;
use par_model::api::{LogRecord, Logs as LogPage};
use par_model::log::Level;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Context, fleet};
use crate::client::{Client, ClientError, Events, segment};
use crate::terminal::{Style, Terminal, harmless};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par logs                      the last lines of all agents\n  par logs hello -n 20          the last 20 of one\n  par logs hello asker -f       two agents, as they write\n  par logs --level error        what went wrong"
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

    /// How many of the last lines
    #[arg(short = 'n', long = "lines", default_value_t = 100)]
    lines: usize,
}

impl Logs {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let status = fleet::status(&context.client).await?;
        let mut sources = vec![];
        for name in &self.agents {
            let known = fleet::find(&status, name).ok_or_else(|| fleet::unknown(name))?;
            sources.push(format!("&process_id=par-{}", segment(&known.agent_id)));
        }
        if sources.is_empty() {
            sources.push(String::new());
        }
        if self.follow {
            self.follow(context, sources).await
        } else {
            self.last(context, &sources).await
        }
    }

    async fn last(&self, context: &Context, sources: &[String]) -> anyhow::Result<()> {
        let mut records = vec![];
        for source in sources {
            let page: LogPage = context.client.get(&self.path(source)).await?;
            records.extend(page.logs.into_iter().rev());
        }
        // Each source is in order; the sort is stable, so lines of one millisecond stay in theirs.
        records.sort_by(|a, b| a.timestamp.cmp(&b.timestamp));
        let skipped = records.len().saturating_sub(self.lines);
        for record in &records[skipped..] {
            show(context.terminal, record)?;
        }
        Ok(())
    }

    async fn follow(&self, context: &Context, sources: Vec<String>) -> anyhow::Result<()> {
        let (records, mut incoming) = mpsc::channel(64);
        let mut readers = JoinSet::new();
        for source in sources {
            let path = format!("{}&follow=true", self.path(&source));
            readers.spawn(read(context.client.clone(), path, records.clone()));
        }
        drop(records);
        while let Some(record) = incoming.recv().await {
            show(context.terminal, &record)?;
        }
        while let Some(ended) = readers.join_next().await {
            ended??;
        }
        context.terminal.note("the supervisor ended the stream");
        Ok(())
    }

    fn path(&self, source: &str) -> String {
        let level = self
            .level
            .map_or_else(String::new, |level| format!("&level={}", name(level)));
        format!("/supervisor/logs?limit={}{source}{level}", self.lines)
    }
}

async fn read(
    client: Client,
    path: String,
    records: mpsc::Sender<LogRecord>,
) -> Result<(), ClientError> {
    let request = client.request_for(Method::GET, &path, "text/event-stream");
    let answer = client.send(request, Empty::<Bytes>::new()).await?;
    let mut events = Events::of(answer.success().await?);
    while let Some(record) = events.next_json().await? {
        if records.send(record).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn show(terminal: Terminal, record: &LogRecord) -> std::io::Result<()> {
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
    let agent = Style::Strong.paint(agent, colours);
    terminal.print(&format!(
        "{time} {agent} {level} {}",
        harmless(&record.message)
    ))
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
