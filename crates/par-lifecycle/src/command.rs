//! What people ask of the fleet, and why it may refuse.

use std::time::Duration;

use par_model::{AgentId, RestartPolicy};

/// Names what an agent is made of: package, environment, limits. Those who give the numbers keep the things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release(pub u64);

/// What the fleet must know of an agent to keep it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deployment {
    pub release: Release,
    pub restart: RestartPolicy,
    /// `None`: as the fleet's settings say.
    pub start_timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start a new agent, or replace one that is at rest.
    Deploy(AgentId, Deployment),
    /// Start an agent that is at rest, as if for the first time: its failures are forgotten, and so is that it
    /// ever served. Whoever starts it waits for the outcome and is better served by a reason than by a retry.
    Start(AgentId),
    /// Withdraw the route, drain, terminate, kill. Given twice, it is the same stop: requests are repeated by
    /// networks, not out of impatience.
    Stop(AgentId),
    /// Stop, and start when the exit has been seen; an agent at rest is just started.
    Restart(AgentId, Option<Deployment>),
    /// Stop, and forget.
    Remove(AgentId),
    /// The first signal: stop everything. Nothing new may start from here on.
    StopAll,
    /// The second signal: kill what still lives.
    KillAll,
}

/// A command that was not taken; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("agent `{0}` is not deployed")]
    NotFound(AgentId),
    #[error("agent `{0}` already runs")]
    AlreadyRuns(AgentId),
    #[error("agent `{0}` is still stopping")]
    StillStopping(AgentId),
    #[error("no port is free")]
    NoPortFree,
    #[error("the supervisor is shutting down")]
    ShuttingDown,
}
