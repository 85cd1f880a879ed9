//! The supervisor's agents, as commands ask for them and wait for them.

use par_model::ProcessState;
use par_model::api::{ProcessStatus, SupervisorStatus};
use serde::Deserialize;

use crate::client::{Client, ClientError, segment};
use crate::exit::{Exit, Problem};
use crate::terminal::Progress;

/// Seconds that one question waits for news.
const PATIENCE: u32 = 25;

pub(crate) async fn status(client: &Client) -> Result<SupervisorStatus, ClientError> {
    client.get("/supervisor/status").await
}

/// The next status after `seen`, or the same one when nothing happens for a while.
pub(crate) async fn next(
    client: &Client,
    seen: &SupervisorStatus,
) -> Result<SupervisorStatus, ClientError> {
    let after = seen.generation;
    client
        .get(&format!("/supervisor/status?after={after}&wait={PATIENCE}"))
        .await
}

/// What an agent can be asked for, as its own health says.
#[derive(Deserialize)]
pub(crate) struct Offers {
    adapter: String,
    asgi: bool,
    /// What it does over gRPC.
    #[serde(default)]
    actions: Vec<String>,
    sessions: Option<u64>,
}

/// How one would ask an agent first.
pub(crate) enum Way {
    Call,
    Exec,
    Paths,
    Action(String),
}

impl Offers {
    /// Whether it has the execution backend.
    pub(crate) fn sessions(&self) -> bool {
        self.sessions.is_some()
    }

    pub(crate) fn first_way(self) -> Way {
        match self.actions.into_iter().next() {
            _ if self.adapter != "none" => Way::Call,
            _ if self.sessions.is_some() => Way::Exec,
            _ if self.asgi => Way::Paths,
            Some(action) => Way::Action(action),
            None => Way::Call,
        }
    }
}

pub(crate) async fn offers(client: &Client, agent: &str) -> Result<Offers, ClientError> {
    #[derive(Deserialize)]
    struct Health {
        agent_status: Offers,
    }
    let health: Health = client
        .get(&format!("/agents/{}/health", segment(agent)))
        .await?;
    Ok(health.agent_status)
}

/// An agent by its id, or by the name of its process.
pub(crate) fn find<'a>(status: &'a SupervisorStatus, name: &str) -> Option<&'a ProcessStatus> {
    let by_id = status.processes.values().find(|p| p.agent_id == name);
    by_id.or_else(|| status.processes.get(name))
}

pub(crate) fn unknown(name: &str) -> Problem {
    Problem::new(Exit::Unknown, format!("no agent is called `{name}`"))
        .help("`par ps` lists the agents")
}

/// Waits until the agent is neither starting nor stopping.
pub(crate) async fn settled(
    client: &Client,
    name: &str,
    progress: &Progress,
) -> anyhow::Result<ProcessStatus> {
    let mut seen = status(client).await?;
    loop {
        let process = find(&seen, name).ok_or_else(|| unknown(name))?;
        match process.state {
            ProcessState::Starting => {
                let what = process.progress.as_deref().unwrap_or("starting");
                progress.say(format!("{name}: {what}"));
            }
            ProcessState::Stopping => progress.say(format!("{name}: finishing its last calls")),
            _ => return Ok(process.clone()),
        }
        seen = next(client, &seen).await?;
    }
}
