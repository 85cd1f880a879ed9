//! What supervisor and worker say to each other: one JSON object a line, over the socket that the worker has as
//! its standard input. The first line is the [`WorkerSpec`]; the end of the stream is the end of the supervisor.
//!
//! A worker that was told to [`Command::Keep`] outlives its supervisor for a while, and is found by the next one at its
//! [`WorkerSpec::control`] socket. There the first line is an [`Adoption`], and the answer a [`Report::Resumed`].

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::egress::{Egress, EgressFigures};
use crate::isolation::{Isolation, Profile};
use crate::limits::{Grouping, How, Limit, Limits, amount};
use crate::log::LogLine;
use crate::{AgentId, ReplicaId, SessionId, SessionLimits};

/// The longest line on the control socket. A worker cuts what it says to fit.
pub const MAX_LINE: usize = 1 << 20;

/// All that a worker needs to know. Has no `Debug`: environment values may be secrets.
#[derive(Clone, Serialize, Deserialize)]
pub struct WorkerSpec {
    pub agent: AgentId,
    pub replica: ReplicaId,
    /// What the deployer calls the package, such as `hello@0.1.0`.
    pub package_id: String,
    /// The unpacked, verified package.
    pub package: PathBuf,
    /// What the deployer gave: above everything in the package, below the runtime's own variables.
    pub env: BTreeMap<String, String>,
    pub host: std::net::IpAddr,
    /// The agent's HTTP port; its gRPC port is [`WorkerSpec::grpc_port`].
    pub port: u16,
    pub grpc_port: u16,
    /// Where the worker also listens, for the supervisor.
    pub socket: Option<PathBuf>,
    /// Where a later supervisor finds the worker.
    pub control: Option<PathBuf>,
    /// What whoever adopts the worker has to know.
    pub secret: Secret,
    /// `NAME=value`, in the environment of the agent's processes, by which they are found wherever they went.
    pub mark: String,
    /// How long the worker goes on without a supervisor.
    pub outlive: Duration,
    /// How often the replica was started again before, for who adopts the worker.
    pub restarts: u32,
    /// How long nobody may call the agent until that is reported; never, if it has none.
    pub idle_timeout: Option<Duration>,
    /// Where the worker reaches the supervisor for calls to other agents.
    pub supervisor_socket: Option<PathBuf>,
    /// What agents are told, such as `http://127.0.0.1:8000`.
    pub supervisor_url: String,
    pub folders: Folders,
    /// The interpreter that the operator chose; else one is looked for.
    pub python: Option<PathBuf>,
    /// Where the groups of the agent and of its sessions are made.
    pub grouping: Grouping,
    pub wanted: Limits,
    /// Without all of them the agent is not started.
    pub limits_required: bool,
    pub isolation: IsolationSpec,
    pub limits: CallLimits,
    pub sessions: SessionLimits,
    #[serde(default)]
    pub liveness: Liveness,
    #[serde(default)]
    pub known_as: KnownAs,
    /// Where the agent may go when it starts; [`Command::Egress`] changes it.
    #[serde(default)]
    pub egress: Egress,
    #[serde(default)]
    pub own_ports: OwnPorts,
    #[serde(default)]
    pub install: InstallRules,
}

/// Who is answered on the agent's own ports. Only the supervisor can tell callers apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnPorts {
    /// Whoever reaches them.
    #[default]
    Open,
    /// Nobody: everybody has to say who it is, and does so at the supervisor's door.
    Closed,
}

/// As whom the agent's own port may be asked, beside its addresses, and by pages of whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAs {
    pub hosts: Vec<String>,
    pub origins: Vec<String>,
}

/// How the worker finds out that its agent hangs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// Between two probes; none are made when it, or the deadline, is 0.
    pub interval: Duration,
    /// How long an answer may take.
    pub deadline: Duration,
    /// A path of the agent's own that has to answer 2xx, too.
    pub path: Option<String>,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            path: None,
        }
    }
}

impl Liveness {
    pub fn is_on(&self) -> bool {
        !self.interval.is_zero() && !self.deadline.is_zero()
    }
}

/// Folders of the state directory that a worker uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Folders {
    /// Dependency environments, shared by all agents.
    pub environments: PathBuf,
    /// The Python side of the runtime, written there by the supervisor.
    pub python: PathBuf,
    /// The agent's own, writable: its HOME.
    pub workspace: PathBuf,
    /// Of the replica's execution sessions, each of which sees its own only.
    pub sessions: PathBuf,
}

/// The walls around an agent and its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsolationSpec {
    /// All layers of it have to take hold, or the agent is not started.
    pub profile: Profile,
    /// What the operator wants at least.
    pub minimum: Profile,
    /// The machine's user that the agent runs as; our own, if there is none.
    pub user: Option<u32>,
    /// The one that code of its sessions runs as: that is not the agent's code.
    pub session_user: Option<u32>,
    /// Why it is not a stronger profile.
    pub missing: Vec<String>,
}

impl Default for IsolationSpec {
    /// Nothing is promised.
    fn default() -> Self {
        Self {
            profile: Profile::Unsafe,
            minimum: Profile::Unsafe,
            user: None,
            session_user: None,
            missing: vec![],
        }
    }
}

/// What the installation of dependencies may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRules {
    /// Whether packages without a wheel are built: that runs their code, behind the same walls as the agent's.
    pub source_distributions: bool,
    /// Hosts beside those of the package index, such as `files.example.org` or `files.example.org:8443`.
    pub hosts: Vec<String>,
    /// Most bytes of all files of one environment.
    pub bytes: u64,
    /// For all of it.
    pub deadline: Duration,
}

impl Default for InstallRules {
    fn default() -> Self {
        Self {
            source_distributions: false,
            hosts: vec![],
            bytes: 8 << 30,
            deadline: Duration::from_secs(900),
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CallLimits {
    /// Calls that the agent works on at one time.
    pub concurrency: u32,
    /// Calls that wait for one of those places.
    pub queue: u32,
    /// Streaming answers of the agent's application and WebSockets at one time.
    pub streams: u32,
    /// Deadline of a call that names none.
    pub deadline: Duration,
    /// Largest JSON body of a call or answer, in bytes.
    pub body: u64,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            concurrency: 64,
            queue: 1024,
            streams: 1024,
            deadline: Duration::from_secs(60),
            body: 64 << 20,
        }
    }
}

/// What a worker tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// It is still preparing; people like to know with what.
    Progress {
        message: String,
    },
    /// The dependencies are there; the agent's code begins to load.
    Prepared,
    /// The agent answers.
    Ready {
        agent_pid: u32,
    },
    /// What the agent may have, and what of that holds.
    Limits {
        limits: Vec<Limit>,
    },
    /// The walls around the agent, as they are.
    Isolation {
        isolation: Isolation,
    },
    Log {
        line: LogLine,
    },
    /// Lines were dropped because they came faster than they could be kept.
    LogsDropped {
        lines: u64,
    },
    /// What went through its proxy so far.
    Egress {
        figures: EgressFigures,
    },
    /// Nobody has called the agent for its idle timeout.
    Quiet,
    /// Somebody calls it after a silence. If it was frozen, it is no longer.
    Busy,
    /// Whether it has execution sessions from now on.
    Sessions {
        any: bool,
    },
    /// The answer to [`Command::Ping`].
    Pong,
    /// The answer to an [`Adoption`]: what was told so far, in one.
    Resumed(Resumed),
    /// Why the worker is about to end.
    Ending {
        cause: EndCause,
    },
}

/// What a worker that outlived a supervisor is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// The agent's process, if it answers.
    pub agent_pid: Option<u32>,
    pub quiet: bool,
    pub sessions: bool,
    /// It takes no new calls and is about to end.
    pub ending: bool,
    /// For how many milliseconds the agent has answered.
    pub served_ms: u64,
    /// [`WorkerSpec::restarts`]
    pub restarts: u32,
    /// Those that it has now.
    #[serde(default)]
    pub session_ids: Vec<SessionId>,
    /// It understands [`Command::Egress`].
    #[serde(default)]
    pub egress: bool,
}

/// The first words of a supervisor that adopts a worker.
#[derive(Serialize, Deserialize)]
pub struct Adoption {
    pub secret: Secret,
    /// As this supervisor wants them.
    #[serde(default)]
    pub own_ports: OwnPorts,
}

/// Known to one worker and to whoever may adopt it. Has no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secret(pub String);

impl PartialEq for Secret {
    /// Takes as long for a wrong one as for the right one of the same length.
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        let differences = ours.iter().zip(theirs).fold(0, |all, (a, b)| all | (a ^ b));
        ours.len() == theirs.len() && differences == 0
    }
}

/// Why an incarnation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum EndCause {
    /// The agent could not be loaded; trying again would not help.
    LoadFailed {
        reason: String,
        traceback: Option<String>,
    },
    /// The dependencies could not be installed.
    DependenciesFailed {
        reason: String,
    },
    /// Its ports were taken by somebody else meanwhile.
    PortTaken {
        port: u16,
    },
    /// Every port that agents may have was in use when it was to be started again.
    NoPortFree,
    /// It did not become ready in time.
    StartTimedOut {
        after: Duration,
    },
    Exit {
        code: i32,
    },
    Signal {
        signal: i32,
        name: String,
    },
    /// It did not answer for so long, or what it said all the time was wrong.
    Hung {
        after: Duration,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        said: Option<String>,
    },
    /// It had more memory than it may have.
    OutOfMemory {
        limit_bytes: u64,
        peak_bytes: u64,
        /// Processes that the kernel killed for it.
        kills: u64,
        by: How,
    },
    /// It had more processes and threads than it may have, where only a watchdog can hold that.
    TooManyProcesses {
        limit: u64,
        found: u64,
    },
    WorkspaceFull {
        limit_bytes: u64,
        used_bytes: u64,
    },
    /// More files and folders than may be.
    TooManyFiles {
        limit: u64,
    },
    /// Limits that are required do not hold here.
    LimitsNotHeld {
        reason: String,
    },
    /// A wall that is required did not take hold: nothing of the agent's was run.
    NotIsolated {
        reason: String,
    },
    /// The worker was asked to end, and did.
    Asked,
    /// A later release took its place before it answered.
    Superseded,
    /// It was let go by hand before it took the calls.
    Abandoned,
    /// Its worker lives and does not answer.
    Silent {
        after: Duration,
    },
    /// The worker itself failed.
    Worker {
        reason: String,
    },
}

impl std::fmt::Display for EndCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LoadFailed { reason, .. } => write!(f, "{reason}"),
            Self::DependenciesFailed { reason } => write!(f, "dependencies: {reason}"),
            Self::PortTaken { port } => write!(f, "port {port} was taken by another program"),
            Self::NoPortFree => write!(f, "no port was free to start it again"),
            Self::StartTimedOut { after } => write!(f, "not ready within {after:?}"),
            Self::Exit { code } => write!(f, "exited with code {code}"),
            Self::Signal { name, .. } => write!(f, "ended by {name}"),
            Self::Hung { after, said: None } => {
                write!(f, "did not answer a liveness probe within {after:?}")
            }
            Self::Hung {
                after,
                said: Some(said),
            } => write!(f, "{said} for {after:?}"),
            Self::OutOfMemory {
                limit_bytes,
                peak_bytes,
                by,
                ..
            } => {
                let (used, most) = (amount(*peak_bytes), amount(*limit_bytes));
                let who = match by {
                    How::Cgroup1 | How::Cgroup2 => "killed by the kernel",
                    _ => "killed by the worker's watchdog",
                };
                write!(f, "out of memory: used {used} of {most} allowed ({who})")
            }
            Self::TooManyProcesses { limit, found } => write!(
                f,
                "too many processes: {found} processes and threads of {limit} allowed (killed by the worker's watchdog)"
            ),
            Self::WorkspaceFull {
                limit_bytes,
                used_bytes,
            } => {
                let (used, most) = (amount(*used_bytes), amount(*limit_bytes));
                write!(f, "the workspace is full: used {used} of {most} allowed")
            }
            Self::TooManyFiles { limit } => {
                write!(f, "the workspace is full: more than {limit} files")
            }
            Self::LimitsNotHeld { reason } => {
                write!(f, "limits are required and do not hold: {reason}")
            }
            Self::NotIsolated { reason } => write!(f, "not isolated, and so not started: {reason}"),
            Self::Asked => write!(f, "stopped"),
            Self::Superseded => write!(f, "a later release took its place before it answered"),
            Self::Abandoned => write!(f, "let go before it took the calls"),
            Self::Silent { after } => write!(f, "its worker did not answer for {after:?}"),
            Self::Worker { reason } => write!(f, "the worker failed: {reason}"),
        }
    }
}

/// What a supervisor asks. Has no `Debug`: it may hold secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Take no new calls, finish those in flight, say goodbye to the agent, end.
    Drain { within: Duration },
    /// Outlive this supervisor: the next one knows you.
    Keep,
    /// Hold the agent's processes still until the next call.
    Freeze,
    /// Say that you are there.
    Ping,
    /// From now on the agent may go there.
    Egress { egress: Box<Egress> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_for_want_of_memory_names_its_figures() {
        let cause = EndCause::OutOfMemory {
            limit_bytes: 64 << 20,
            peak_bytes: 64 << 20,
            kills: 1,
            by: How::Cgroup1,
        };
        assert_eq!(
            cause.to_string(),
            "out of memory: used 64 MiB of 64 MiB allowed (killed by the kernel)"
        );
    }
}
