//! `par stop`, `par start`, `par restart`, `par rm`.

use clap::Args;
use par_model::ProcessState;
use par_model::api::{Done, ProcessStatus, Spawned};

use super::{Context, fleet};
use crate::client::segment;
use crate::exit::{Exit, Problem};

#[derive(Args)]
#[command(after_help = "Examples:\n  par stop hello\n  par stop hello asker")]
pub(crate) struct Stop {
    /// Agents, as `par ps` lists them
    #[arg(required = true, value_name = "AGENT")]
    agents: Vec<String>,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  par start hello")]
pub(crate) struct Start {
    /// Agents, as `par ps` lists them
    #[arg(required = true, value_name = "AGENT")]
    agents: Vec<String>,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par restart hello\n\nThe package stays the same; to bring a new one, `par deploy` it."
)]
pub(crate) struct Restart {
    /// Agents, as `par ps` lists them
    #[arg(required = true, value_name = "AGENT")]
    agents: Vec<String>,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  par rm hello")]
pub(crate) struct Remove {
    /// Agents, as `par ps` lists them
    #[arg(required = true, value_name = "AGENT")]
    agents: Vec<String>,
}

impl Stop {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        for agent in &self.agents {
            let path = format!("/supervisor/stop/{}", segment(agent));
            let progress = context.terminal.progress();
            progress.say(format!("{agent}: finishing its last calls"));
            let stopped = async {
                let _done: Done = context.client.post(&path).await?;
                fleet::settled(&context.client, agent, &progress).await
            };
            show(context, &progress.during(stopped).await?)?;
        }
        Ok(())
    }
}

impl Start {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        bring_up(context, "start", &self.agents).await
    }
}

impl Restart {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        bring_up(context, "restart", &self.agents).await
    }
}

impl Remove {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        for agent in &self.agents {
            let path = format!("/supervisor/agents/{}", segment(agent));
            let progress = context.terminal.progress();
            progress.say(format!("{agent}: finishing its last calls"));
            let done: Done = progress.during(context.client.delete(&path)).await?;
            if context.terminal.json {
                context.terminal.print_json(&done)?;
            } else {
                context.terminal.print(&format!("{agent} is removed"))?;
            }
        }
        Ok(())
    }
}

async fn bring_up(context: &Context, verb: &str, agents: &[String]) -> anyhow::Result<()> {
    for agent in agents {
        let path = format!("/supervisor/{verb}/{}", segment(agent));
        let progress = context.terminal.progress();
        progress.say(format!("{agent}: starting"));
        let started = async {
            let spawned: Spawned = context.client.post(&path).await?;
            for warning in &spawned.warnings {
                context.terminal.warn(warning);
            }
            fleet::settled(&context.client, agent, &progress).await
        };
        let process = progress.during(started).await?;
        if process.state != ProcessState::Running {
            return Err(did_not_start(context, &process).into());
        }
        show(context, &process)?;
    }
    Ok(())
}

fn show(context: &Context, process: &ProcessStatus) -> anyhow::Result<()> {
    let terminal = context.terminal;
    if terminal.json {
        terminal.print_json(process)?;
        return Ok(());
    }
    let (agent, state) = (&process.agent_id, process.state.as_str());
    let place = match process.state {
        ProcessState::Running => {
            format!(" at {}/agents/{agent}/invoke", context.client.origin())
        }
        _ => String::new(),
    };
    terminal.print(&format!("{agent} is {state}{place}"))?;
    Ok(())
}

fn did_not_start(context: &Context, process: &ProcessStatus) -> Problem {
    let (agent, state) = (&process.agent_id, process.state.as_str());
    let reason = process.error.as_deref().unwrap_or("no reason was given");
    let message = format!("{agent} is {state}: {reason}");
    let logs = context.par(&format!("logs {agent}"));
    let status = context.par(&format!("ps {agent}"));
    Problem::new(Exit::Failed, message).help(format!(
        "`{status}` shows its traceback, `{logs}` what it wrote"
    ))
}
