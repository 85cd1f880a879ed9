//! `par upgrade`: this binary in the place of the running supervisor.

use std::path::PathBuf;

use clap::Args;
use par_model::api::{UpgradeRequest, Upgraded};

use super::Context;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
        par upgrade                        the binary that you call is the new one\n  \
        par upgrade --binary /opt/par-2    another one\n\n\
        The new process takes over the listening socket and the agents, which are not restarted. Calls that began before\n\
        are finished by the old process, which then ends. If the new one does not serve, nothing has changed.")]
pub(crate) struct Upgrade {
    /// The new binary, on the supervisor's machine; without it, the one that you call
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl Upgrade {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let binary = match self.binary {
            Some(binary) => std::path::absolute(binary)?,
            None => std::env::current_exe()?,
        };
        let request = UpgradeRequest {
            binary: binary.display().to_string(),
        };
        let progress = context.terminal.progress();
        progress.say("the new process takes over");
        let asked = context.client.post_json("/supervisor/upgrade", &request);
        let upgraded: Upgraded = progress.during(asked).await?;
        if context.terminal.json {
            context.terminal.print_json(&upgraded)?;
        } else {
            let pid = upgraded.pid;
            context
                .terminal
                .print(&format!("process {pid} is the supervisor now"))?;
        }
        Ok(())
    }
}
