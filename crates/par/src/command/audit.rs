//! `par audit`: what was decided about callers.

use clap::Args;
use par_model::access::{Audit as Page, AuditEntry};

use super::Context;
use crate::terminal::{Style, Terminal, harmless};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par audit                 the last 100 decisions, the newest last\n  par audit -n 1000 --json  for programs: one JSON object a line\n\n\
        What is denied and what changes something is kept; calls that are allowed, with `audit_calls = true` in [access]."
)]
pub(crate) struct Audit {
    /// How many of the last decisions
    #[arg(short = 'n', long = "lines", default_value_t = 100)]
    lines: usize,
}

impl Audit {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let path = format!("/supervisor/audit?limit={}", self.lines);
        let page: Page = context.client.get(&path).await?;
        for entry in page.entries.iter().rev() {
            show(context.terminal, entry)?;
        }
        for note in &page.notes {
            context.terminal.note(note);
        }
        Ok(())
    }
}

fn show(terminal: Terminal, entry: &AuditEntry) -> std::io::Result<()> {
    if terminal.json {
        return terminal.print(&serde_json::to_string(entry)?);
    }
    let colours = terminal.out.colours;
    let style = if entry.decision == "allow" {
        Style::Good
    } else {
        Style::Bad
    };
    let decision = style.paint(&entry.decision, colours);
    let address = entry.address.as_ref().map(|it| format!(" ({it})"));
    let rest = format!(
        "{}{} {} {}: {}",
        entry.caller,
        address.unwrap_or_default(),
        entry.action,
        entry.target,
        entry.reason
    );
    terminal.print(&format!("{} {decision} {}", entry.at, harmless(&rest)))
}
