//! `par secret`: what an agent needs to prove who it is, without having it.

use std::io::{self, Read as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use par_model::AgentId;
use par_model::api::{NewSecret, SecretList};
use par_model::egress::{HeaderTemplate, LARGEST_SECRET, SecretName};
use par_model::network::HostPattern;

use super::Context;
use crate::client::segment;
use crate::exit::{Exit, Problem};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
        par secret set hello API_KEY --host api.example.org < key.txt\n  \
        par secret set hello API_KEY --host api.example.org --header 'Authorization: Bearer {}' --file key.txt\n  \
        par secret set hello DB_PASSWORD --as-env < password.txt\n  \
        par secret list hello\n  \
        par secret remove hello API_KEY\n\n\
        The agent finds a placeholder in the variable API_KEY. Where it sends that in a header to http://api.example.org/, the\n\
        proxy puts the value in its place; anywhere else the request is refused. For TLS grant https://api.example.org.")]
pub(crate) struct Secret {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Give an agent a secret, or change it; the value comes from standard input, or from a file
    Set(Box<Set>),
    /// List the secrets of an agent, without their values
    List {
        /// An agent
        agent: AgentId,
    },
    /// Take a secret away
    Remove {
        /// An agent
        agent: AgentId,
        /// A secret, as `par secret list` lists it
        name: SecretName,
    },
}

#[derive(Args)]
struct Set {
    /// An agent; it need not be there yet
    agent: AgentId,
    /// The name of the secret, and of the agent's variable
    name: SecretName,
    /// To whom the proxy sends it: a name, an address, or *.DOMAIN; may be given several times
    #[arg(long, value_name = "HOST", required_unless_present = "as_env")]
    host: Vec<HostPattern>,
    /// A header that every request to those hosts gets, with {} for the value
    #[arg(long, value_name = "NAME: VALUE")]
    header: Option<HeaderTemplate>,
    /// Put the value itself into the agent's environment, where its code can read it
    #[arg(long, conflicts_with_all = ["host", "header"])]
    as_env: bool,
    /// Where the value is; without it, standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Secret {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = &context.client;
        let list: SecretList = match self.what {
            What::Set(set) => {
                let path = path(&set.agent);
                let new = NewSecret {
                    value: value(set.file)?,
                    name: set.name,
                    hosts: set.host,
                    header: set.header,
                    as_env: set.as_env,
                };
                client.post_json(&path, &new).await?
            }
            What::List { agent } => client.get(&path(&agent)).await?,
            What::Remove { agent, name } => {
                let path = format!("{}/{}", path(&agent), segment(name.as_str()));
                client.delete(&path).await?
            }
        };
        show(context, &list)
    }
}

fn path(agent: &AgentId) -> String {
    format!("/supervisor/agents/{}/secrets", segment(agent.as_str()))
}

/// Without the end of its last line, which editors and `echo` add.
fn value(file: Option<PathBuf>) -> anyhow::Result<String> {
    let most = LARGEST_SECRET as u64 + 2;
    let mut text = String::new();
    match file {
        Some(path) => {
            let shown = path.display().to_string();
            let file = std::fs::File::open(&path);
            let file = file.with_context(|| format!("failed to read `{shown}`"))?;
            file.take(most)
                .read_to_string(&mut text)
                .with_context(|| format!("failed to read `{shown}`"))?;
        }
        None => {
            io::stdin()
                .take(most)
                .read_to_string(&mut text)
                .context("failed to read the value from standard input")?;
        }
    }
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() {
        let message = "the value is empty";
        let help = "give it on standard input, or in a file with --file";
        return Err(Problem::new(Exit::Usage, message).help(help).into());
    }
    Ok(value.to_owned())
}

fn show(context: &Context, list: &SecretList) -> anyhow::Result<()> {
    let terminal = context.terminal;
    if terminal.json {
        terminal.print_json(list)?;
        return Ok(());
    }
    for note in &list.notes {
        terminal.warn(note);
    }
    let agent = &list.agent_id;
    let mut lines = vec![match list.secrets.is_empty() {
        true => format!("{agent} has no secrets"),
        false => format!("{agent} has"),
    }];
    for secret in &list.secrets {
        let whither = match secret.as_env {
            true => "its value is in the environment".to_owned(),
            false => format!("for {}", secret.hosts.join(", ")),
        };
        let header = secret.header.iter().map(|it| format!(" in `{it}`"));
        let header: String = header.collect();
        lines.push(format!(
            "  {}  {whither}{header}, set {}",
            secret.name, secret.set_at
        ));
    }
    terminal.print(&lines.join("\n"))?;
    Ok(())
}
