//! `par events`: what happened to agents, and what happens now.

use clap::Args;
use par_model::api::Events as Page;
use par_model::event::{Event, EventKind};

use super::{Context, following};
use crate::client::segment;
use crate::terminal::{Style, Terminal, harmless};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par events                    the last events of all agents and of the supervisor\n  par events hello --since 1h   what happened to one within the last hour\n  par events -f                 as they happen\n  par events -f --json          for programs: one JSON object a line"
)]
pub(crate) struct Events {
    /// Agents, those that are gone too; without one, all, and the supervisor
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,

    /// Keep showing events as they happen, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// Not older than this: a while such as 10m, or a time such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,

    /// How many of the last events
    #[arg(short = 'n', long = "lines", default_value_t = 100)]
    lines: usize,
}

impl Events {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        if self.follow {
            self.follow(context).await
        } else {
            self.last(context).await
        }
    }

    async fn last(&self, context: &Context) -> anyhow::Result<()> {
        let page: Page = context.client.get(&self.path()).await?;
        for event in page.events.iter().rev() {
            show(context.terminal, event)?;
        }
        Ok(())
    }

    async fn follow(&self, context: &Context) -> anyhow::Result<()> {
        let path = format!("{}&follow=true", self.path());
        let show = |event: &Event| show(context.terminal, event);
        following::follow(context, &path, show, |event| Some(event.id)).await
    }

    fn path(&self) -> String {
        let agents: Vec<String> = self.agents.iter().map(|name| segment(name)).collect();
        let since = self.since.as_deref().map(segment).unwrap_or_default();
        let (limit, agents) = (self.lines, agents.join(","));
        format!("/supervisor/events?limit={limit}&agent={agents}&since={since}")
    }
}

fn show(terminal: Terminal, event: &Event) -> std::io::Result<()> {
    if terminal.json {
        return terminal.print(&serde_json::to_string(event)?);
    }
    let colours = terminal.out.colours;
    let kind = Style::paint(style(event.kind), event.kind.word(), colours);
    let agent = event.agent.as_deref().unwrap_or("supervisor");
    let rest = rest(event);
    if terminal.out.width.is_none() {
        return terminal.print(&format!("{} {agent} {kind}{rest}", event.at));
    }
    let time = event
        .at
        .split_once('T')
        .map_or(event.at.as_str(), |(_, time)| time);
    let time = Style::Faint.paint(time.trim_end_matches('Z'), colours);
    let agent = Style::Strong.paint(agent, colours);
    terminal.print(&format!("{time} {agent} {kind}{}", harmless(&rest)))
}

/// What else is known of it.
fn rest(event: &Event) -> String {
    let release = event.release.map(|number| format!(" release {number}"));
    let replica = event.replica.map(|number| format!(" replica {number}"));
    let reason = event.reason.as_ref().map(|reason| format!(": {reason}"));
    [release, replica, reason].into_iter().flatten().collect()
}

fn style(kind: EventKind) -> Style {
    match kind {
        EventKind::Crashed
        | EventKind::Failed
        | EventKind::OutOfMemory
        | EventKind::Hung
        | EventKind::ReleaseFailed
        | EventKind::WebhookGaveUp => Style::Bad,
        EventKind::LimitHit
        | EventKind::Restarting
        | EventKind::RolledBack
        | EventKind::EventsLost => Style::Warning,
        _ => Style::Faint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_an_event_stands_behind_its_kind() {
        let mut event = Event {
            id: 1,
            at: "2030-01-31T12:00:00.000Z".to_owned(),
            kind: EventKind::Crashed,
            agent: None,
            replica: Some(12),
            release: Some(3),
            reason: Some("exit code 1".to_owned()),
            details: None,
        };
        assert_eq!(rest(&event), " release 3 replica 12: exit code 1");
        event.replica = None;
        event.release = None;
        event.reason = None;
        assert_eq!(rest(&event), "");
    }
}
