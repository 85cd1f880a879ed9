//! `par demo`: agents at work, one asking another, one running code, with nothing set up beforehand.

mod story;
mod supervisor;

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::client::{Client, Trust};
use crate::command::Context;
use crate::exit::{Exit, Problem};
use crate::signals::Signals;
use crate::terminal::Terminal;
use story::Story;
use supervisor::{Settings, Supervisor};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par demo                 serves until Ctrl-C, with lines to try\n  par demo --once          ends after the agents have talked\n  par demo --port 0 --agent-ports 9001-9010\n\nWhat it writes lies in a temporary folder and is removed at the end."
)]
pub(crate) struct Demo {
    /// End after the agents have talked
    #[arg(long)]
    once: bool,

    /// The supervisor's port; 0 takes any free one
    #[arg(long, default_value_t = 8000)]
    port: u16,

    /// HTTP ports for the agents; their gRPC ports lie 10000 higher
    #[arg(long, value_name = "A-B", default_value = "8001-8099")]
    agent_ports: String,

    /// The Python that the agents run on [default: python3 of the PATH]
    #[arg(long, env = "PAR_PYTHON", value_name = "PATH")]
    python: Option<PathBuf>,
}

impl Demo {
    pub(crate) async fn run(self, terminal: Terminal) -> anyhow::Result<()> {
        // Listened to from the beginning: a signal must never find us with a child and no plan.
        let mut signals = Signals::listen()?;
        refuse_a_taken_port(self.port)?;
        let folder = tempfile::Builder::new()
            .prefix("par-demo-")
            .tempdir()
            .context("failed to create a temporary folder")?;
        let state = folder.path().join("state");
        let settings = Settings {
            port: self.port,
            agent_ports: &self.agent_ports,
            state: &state,
            python: self.python.as_ref(),
        };
        let progress = terminal.progress();
        progress.say("starting a supervisor");
        let mut supervisor = tokio::select! {
            started = progress.during(Supervisor::start(&settings)) => started?,
            _ = signals.next() => return Ok(()),
        };
        let context = Context {
            client: Client::new(supervisor.origin().clone(), Trust::default(), None),
            terminal,
        };
        let story = Story::new(&context, folder.path());
        let outcome = tokio::select! {
            told = tell(&story, self.once) => told,
            status = supervisor.ended() => Err(ended_early(status)),
            _ = signals.next() => Ok(()),
        };
        progress.say("ending the supervisor and its agents");
        let stopped = progress.during(supervisor.stop(signals.next())).await;
        outcome.and(stopped)
    }
}

async fn tell(story: &Story<'_>, once: bool) -> anyhow::Result<()> {
    story.tell().await?;
    if once {
        return Ok(());
    }
    story.invite()?;
    std::future::pending().await
}

fn ended_early(status: std::io::Result<std::process::ExitStatus>) -> anyhow::Error {
    match status {
        Ok(status) => anyhow::anyhow!("the supervisor ended by itself: {status}"),
        Err(error) => anyhow::Error::new(error).context("failed to wait for the supervisor"),
    }
}

fn refuse_a_taken_port(port: u16) -> Result<(), Problem> {
    TcpListener::bind(("127.0.0.1", port))
        .map(drop)
        .map_err(|source| {
            Problem::new(Exit::Failed, format!("port {port} cannot be used"))
                .because(source)
                .help("`par demo --port 0` takes any free one")
        })
}
