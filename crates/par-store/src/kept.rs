//! What is kept, as plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use par_model::api::SpawnOptions;
use par_model::egress::{HeaderTemplate, SecretName};
use par_model::event::NewEvent;
use par_model::network::{Destination, HostPattern};
use par_model::{AgentId, PackageDigest, ReplicaId, Role, Scope, TokenName};

use crate::secrets::{KeptSecrets, Secrets};

/// Grows by one with each change of what is kept of agents and incarnations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// Whether an agent is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    Up,
    Stopped,
}

/// A release that gets a part of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Canary {
    pub release: u32,
    /// Of a thousand calls, how many.
    pub permille: u16,
}

/// What is wanted of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub wanted: Wanted,
    pub replicas: u32,
    /// Number of the release that serves.
    pub current: u32,
    pub canary: Option<Canary>,
    /// The ports that its replicas had, by slot, and get again where they are free.
    pub homes: BTreeMap<u32, u16>,
}

/// Has no `Debug`: its releases hold environment values.
#[derive(Clone, PartialEq)]
pub struct KeptAgent {
    pub agent: AgentId,
    pub wish: Wish,
    /// Numbers up to this one are taken, though their releases may be gone.
    pub last_number: u32,
    /// By number, oldest first. The newest, and those in use.
    pub releases: Vec<KeptRelease>,
}

impl KeptAgent {
    pub fn release(&self, number: u32) -> Option<&KeptRelease> {
        self.releases
            .iter()
            .find(|release| release.number == number)
    }
}

/// What became of a release.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Not known yet.
    Pending,
    Live,
    /// It was live; another one is now.
    Superseded,
    Failed {
        reason: String,
    },
}

/// Has no `Debug`: its environment may hold what nobody should read.
#[derive(Clone, PartialEq)]
pub struct KeptRelease {
    pub number: u32,
    pub package_id: String,
    pub digest: PackageDigest,
    /// Where it is unpacked.
    pub package: PathBuf,
    pub env: BTreeMap<String, String>,
    /// Their names; [`KeptSecrets::read`] gets the values.
    pub secrets: KeptSecrets,
    pub options: SpawnOptions,
    pub created_at_ms: u64,
    /// Such as `rollback to 3`.
    pub note: Option<String>,
    pub outcome: Outcome,
}

/// A release to be kept. Has no `Debug`: it holds secrets.
#[derive(Clone, PartialEq)]
pub struct NewRelease {
    /// Above every number that the agent ever had.
    pub number: u32,
    pub package_id: String,
    pub digest: PackageDigest,
    pub package: PathBuf,
    pub env: BTreeMap<String, String>,
    pub secrets: Secrets,
    pub options: SpawnOptions,
    pub created_at_ms: u64,
    pub note: Option<String>,
}

/// What the next supervisor must know of a worker to find it again, and to be believed by it.
/// Has no `Debug`: it holds a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Incarnation {
    pub replica: ReplicaId,
    pub agent: AgentId,
    pub slot: u32,
    pub release: u32,
    pub port: u16,
    pub grpc_port: u16,
    pub pid: u32,
    /// In clock ticks since boot: with the boot, it tells a process from a later one of the same number.
    pub pid_start_time: u64,
    pub boot_id: String,
    /// What the worker demands of whoever adopts it: 64 hexadecimal digits.
    pub secret: String,
    pub made_at_ms: u64,
}

/// A token that callers may show. Has no `Debug`: of its secret it holds the hash alone, but that is nobody's either.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptToken {
    pub name: TokenName,
    pub id: u64,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    pub scopes: BTreeSet<Scope>,
    pub roles: BTreeSet<Role>,
    pub created_at_ms: u64,
    pub expires_at_ms: Option<u64>,
}

/// An event and its number, which grows from event to event and is never used again.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptEvent {
    pub id: u64,
    pub event: NewEvent,
}

/// A secret that the operator gave an agent. Has no `Debug`.
#[derive(Clone, PartialEq)]
pub struct KeptSecret {
    pub name: SecretName,
    pub value: String,
    /// What the agent has in its place; stays the same when the value changes.
    pub placeholder: String,
    /// To whom the proxy sends it.
    pub hosts: Vec<HostPattern>,
    pub header: Option<HeaderTemplate>,
    /// The value itself is in the agent's environment.
    pub as_env: bool,
    pub set_at_ms: u64,
}

/// Where an agent may go, and what it was given for the way. Has no `Debug`: it holds secrets.
#[derive(Clone, Default, PartialEq)]
pub struct KeptAllowance {
    /// And since when, in milliseconds since 1970.
    pub granted: BTreeMap<Destination, u64>,
    pub secrets: Vec<KeptSecret>,
    /// Secrets that are not as they were sealed.
    pub damaged: Vec<String>,
}

/// One step of a commit. Those of one commit happen together or not at all.
///
/// Late news is harmless: what is said of an agent, a release or an incarnation that is gone changes nothing.
#[derive(Clone)]
pub enum Change {
    /// The first release of an agent makes the agent: wanted, one replica, this release its current one.
    AddRelease(AgentId, Box<NewRelease>),
    /// Of an agent that has releases.
    SetWish(AgentId, Wish),
    SetOutcome(AgentId, u32, Outcome),
    /// With all its releases, its secrets, and where it may go.
    RemoveAgent(AgentId),
    Grant(AgentId, Destination, u64),
    Revoke(AgentId, Destination),
    SetSecret(AgentId, Box<KeptSecret>),
    RemoveSecret(AgentId, SecretName),
    /// Or changes what is known of it.
    AddIncarnation(Incarnation),
    RemoveIncarnation(ReplicaId),
}

/// Which events are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Without any, events of all agents and of the supervisor.
    pub agents: Vec<AgentId>,
    /// Those with a greater number.
    pub after: Option<u64>,
    /// Those that happened at this time or later, in milliseconds since 1970.
    pub since_ms: Option<u64>,
}

impl EventFilter {
    /// Whether one event is meant.
    pub fn means(&self, kept: &KeptEvent) -> bool {
        let agent = kept.event.agent.as_ref();
        let of_these = || agent.is_some_and(|agent| self.agents.contains(agent));
        self.after.is_none_or(|after| kept.id > after)
            && self.since_ms.is_none_or(|since| kept.event.at_ms >= since)
            && (self.agents.is_empty() || of_these())
    }
}
