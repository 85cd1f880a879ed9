//! The demo's own supervisor: a child process that never outlives the demo.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use par_sandbox::Target;
use rustix::process::Signal;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use crate::client::Origin;

/// A supervisor that needs longer than this to say its address never will.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longer than the supervisor's own grace period.
const STOP_LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Settings<'a> {
    pub(super) port: u16,
    pub(super) agent_ports: &'a str,
    pub(super) state: &'a Path,
    pub(super) python: Option<&'a PathBuf>,
}

pub(super) struct Supervisor {
    child: Child,
    origin: Origin,
    /// Held open: a supervisor whose output nobody could read might end.
    _stdout: BufReader<ChildStdout>,
}

/// The first line of `par up --json`.
#[derive(Deserialize)]
struct Announcement {
    url: String,
}

impl Supervisor {
    pub(super) async fn start(settings: &Settings<'_>) -> anyhow::Result<Self> {
        let arguments = settings.arguments();
        let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
        let mut child =
            par_sandbox::spawn_own(&arguments).context("failed to start the supervisor")?;
        let stdout = child
            .stdout
            .take()
            .expect("it was spawned with a piped stdout");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        timeout(START_LIMIT, stdout.read_line(&mut line))
            .await
            .map_err(|_| anyhow!("the supervisor said no address within {START_LIMIT:?}"))?
            .context("failed to read the supervisor's address")?;
        if line.is_empty() {
            let status = child.wait().await?;
            return Err(anyhow!("the supervisor did not start: {status}"));
        }
        let said: Announcement = serde_json::from_str(&line)
            .with_context(|| format!("the supervisor said `{}`", line.trim_end()))?;
        Ok(Self {
            child,
            origin: said.url.parse()?,
            _stdout: stdout,
        })
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Waits for an end that nobody asked for.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to end with all its agents, and waits; `hurry` ends the patience early.
    pub(super) async fn stop(mut self, hurry: impl Future) -> anyhow::Result<()> {
        let Ok(supervisor) = Target::of(&self.child) else {
            return Ok(()); // It has ended already.
        };
        supervisor.signal(Signal::TERM);
        tokio::select! {
            ended = timeout(STOP_LIMIT, self.child.wait()) => match ended {
                Ok(status) => status.map(drop)?,
                Err(_elapsed) => self.child.kill().await?,
            },
            _ = hurry => self.child.kill().await?,
        }
        Ok(())
    }
}

impl Settings<'_> {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = ["up", "--json", "--log", "warn", "--host", "127.0.0.1"]
            .map(OsString::from)
            .into();
        arguments.push("--port".into());
        arguments.push(self.port.to_string().into());
        arguments.push("--agent-ports".into());
        arguments.push(self.agent_ports.into());
        arguments.push("--state".into());
        arguments.push(self.state.into());
        if let Some(python) = self.python {
            arguments.push("--python".into());
            arguments.push(python.into());
        }
        arguments
    }
}
