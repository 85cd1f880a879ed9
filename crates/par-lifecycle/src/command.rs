//! What people ask of the fleet, and why it may refuse.

use std::time::{Duration, Instant};

use par_model::{AgentId, RestartPolicy};

use crate::{Desired, Incarnation};

/// Names what an agent is made of: package, environment, limits. The numbers of one agent are never given twice;
/// those who give the numbers keep the things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release(pub u32);

/// What the fleet must know of an agent to keep it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deployment {
    pub release: Release,
    /// At least one.
    pub replicas: u32,
    pub restart: RestartPolicy,
    /// `None`: as the fleet's settings say.
    pub start_timeout: Option<Duration>,
    /// Whether and when a frozen agent is stopped. That it is frozen at all is decided by what its workers say of
    /// their silence ([`crate::Event::Quiet`]).
    pub stop_when_frozen_for: Option<Duration>,
}

/// What to do with an agent of the same name that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// The name is taken.
    Refuse,
    /// The new release starts beside the old one and takes its place when all its replicas answer.
    Roll,
    /// The new release starts beside the old one and takes this share of the calls, in thousandths, until it is
    /// promoted or abandoned.
    Canary { permille: u16 },
}

/// Where somebody left an agent, and what of it still lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    pub desired: Desired,
    /// With as many replicas as are desired, whatever it says.
    pub deployment: Deployment,
    /// The deployment of the canary that is desired, with as many replicas as its share asks for; without it, the canary is
    /// not desired any more.
    pub canary: Option<Deployment>,
    /// Whether the release has ever answered.
    pub proven: bool,
    /// Workers that went on serving. Those of other releases than the desired ones are let go.
    pub living: Vec<Survivor>,
    /// The HTTP port that each replica had last, by slot.
    pub homes: Vec<(u32, u16)>,
}

/// An incarnation that outlived its supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survivor {
    pub incarnation: Incarnation,
    /// Since when it answers.
    pub since: Instant,
    /// How often its replica was restarted before.
    pub restarts: u32,
    /// Whether it has execution sessions.
    pub sessions: bool,
    /// It takes new calls: nobody has told it to end.
    pub serves: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start a new agent, replace one that is at rest, or let a new release in beside one that runs.
    Deploy(AgentId, Deployment, Beside),
    /// The canary gets as many replicas as the agent has and, when they answer, all calls; until then it has its share.
    Promote(AgentId),
    /// The release that is coming in, canary or not, is let go; the current one goes on.
    Abandon(AgentId),
    /// So many replicas from now on.
    Scale(AgentId, u32),
    /// Start what is at rest of an agent, as if for the first time: its failures are forgotten, and so is that it
    /// ever served. Whoever starts it waits for the outcome and is better served by a reason than by a retry. Refused while
    /// some of it still stops.
    Start(AgentId),
    /// Somebody calls an agent that was stopped because nobody did. Refused when no port is free: it sleeps on.
    Wake(AgentId),
    /// Withdraw the route, drain, terminate, kill. Given twice, it is the same stop: requests are repeated by
    /// networks, not out of impatience.
    Stop(AgentId),
    /// Stop, and start when the exit has been seen; an agent at rest is just started.
    Restart(AgentId),
    /// Stop, and forget.
    Remove(AgentId),
    /// The first signal: stop everything. Nothing new may start from here on, and what is desired stays as it is.
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
    #[error("agent `{0}` has no canary")]
    NoCanary(AgentId),
    #[error("the canary of agent `{0}` does not answer yet")]
    CanaryNotReady(AgentId),
    #[error("agent `{0}` does not run: a canary needs a release beside it")]
    NothingBeside(AgentId),
    #[error("no port is free")]
    NoPortFree,
    #[error("the supervisor is shutting down")]
    ShuttingDown,
}
