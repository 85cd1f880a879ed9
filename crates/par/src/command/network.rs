//! `par network`: where an agent may go.

use clap::{Args, Subcommand};
use par_model::AgentId;
use par_model::api::{Destinations, Network as Answer};
use par_model::network::Destination;

use super::Context;
use crate::client::segment;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
        par network list hello\n  \
        par network grant hello api.example.org:443      a tunnel, the agent speaks TLS itself\n  \
        par network grant hello '*.example.org:443'      all names below example.org\n  \
        par network grant hello https://api.example.org  the proxy speaks TLS, and can put secrets in\n  \
        par network grant hello 127.0.0.1:5432           that very address; names never lead to private ones\n  \
        par network revoke hello api.example.org:443\n\n\
        Nothing is granted unless it is here. Agents go out through the proxy in HTTP_PROXY and HTTPS_PROXY.")]
pub(crate) struct Network {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List where an agent may go, and what it asks for and may not have
    List {
        /// An agent
        agent: AgentId,
    },
    /// Let an agent go there, from now on and without a restart
    Grant(Chosen),
    /// Take that back; connections that are open go on
    Revoke(Chosen),
}

#[derive(Args)]
struct Chosen {
    /// An agent; it need not be there yet
    agent: AgentId,
    /// HOST:PORT, *.DOMAIN:PORT, ADDRESS:PORT or https://HOST
    #[arg(required = true, value_name = "DESTINATION")]
    destinations: Vec<Destination>,
}

impl Network {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let answer: Answer = match self.what {
            What::List { agent } => context.client.get(&path(&agent, "")).await?,
            What::Grant(chosen) => chosen.tell(context, "/grant").await?,
            What::Revoke(chosen) => chosen.tell(context, "/revoke").await?,
        };
        show(context, &answer)
    }
}

impl Chosen {
    async fn tell(self, context: &Context, what: &str) -> anyhow::Result<Answer> {
        let body = Destinations {
            destinations: self.destinations,
        };
        let path = path(&self.agent, what);
        Ok(context.client.post_json(&path, &body).await?)
    }
}

pub(super) fn path(agent: &AgentId, what: &str) -> String {
    let agent = segment(agent.as_str());
    format!("/supervisor/agents/{agent}/network{what}")
}

fn show(context: &Context, answer: &Answer) -> anyhow::Result<()> {
    let terminal = context.terminal;
    if terminal.json {
        terminal.print_json(answer)?;
        return Ok(());
    }
    for note in &answer.notes {
        terminal.warn(note);
    }
    let agent = &answer.agent_id;
    let mut lines = vec![match answer.granted.is_empty() {
        true => format!("{agent} may go nowhere"),
        false => format!("{agent} may go to"),
    }];
    let granted = answer.granted.iter();
    lines.extend(granted.map(|it| format!("  {}  since {}", it.destination, it.granted_at)));
    if !answer.not_granted.is_empty() {
        lines.push("it asks for, and may not have".to_owned());
    }
    for destination in &answer.not_granted {
        let grant = context.par(&format!("network grant {agent} {destination}"));
        lines.push(format!("  {destination}  to allow it: {grant}"));
    }
    terminal.print(&lines.join("\n"))?;
    Ok(())
}
