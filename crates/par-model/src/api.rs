//! Bodies of the control API (port 8000), shared by the supervisor that answers and the command line that asks.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::ToSchema;

use crate::control::Liveness;
use crate::egress::{EgressFigures, HeaderTemplate, SecretName};
use crate::event::Event;
use crate::isolation::Isolation;
use crate::limits::{Limit, Priority};
use crate::log::{Level, Stream};
use crate::network::{Destination, HostPattern};
use crate::{AgentId, ProcessState, RestartMode, Role};

/// `{"detail": …}`, the body of every refusal.
pub fn detail(text: &str) -> String {
    serde_json::json!({ "detail": text }).to_string()
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Detail {
    pub detail: String,
}

/// `POST /supervisor/spawn`
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct SpawnRequest {
    pub agent_id: String,
    #[serde(default)]
    pub package_id: String,
    /// An `.apkg` file, or a folder that would make one, on the supervisor's machine.
    pub package_path: String,
    /// Above everything the package sets, below the runtime's own variables.
    #[serde(default)]
    pub env_vars: BTreeMap<String, String>,
    #[serde(flatten)]
    pub options: SpawnOptions,
}

/// The settings of a deployment; what is left out keeps its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpawnOptions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_mb: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<f64>,
    /// Processes and threads, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
    /// Of each process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files_limit: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_limit_mb: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Do not start the agent where a limit cannot be held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_limits: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_delay_seconds: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_multiplier: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restart_delay_seconds: Option<f64>,
    /// Restarts within `restart_period_seconds`, however stable the times between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restarts_in_period: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_period_seconds: Option<f64>,
    /// Processes that serve the agent side by side; those it has, if it is known, else one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Frozen when nobody has called it for this long; never, unless it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<f64>,
    /// Stopped when it has been frozen for this long: 600, unless it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_stop_seconds: Option<f64>,
    /// Between two probes whether the agent still answers; 10 unless said otherwise, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_interval_seconds: Option<f64>,
    /// An agent that does not answer a probe for so long is ended, and started again as after a crash; 30 unless said
    /// otherwise, 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_deadline_seconds: Option<f64>,
    /// A path of the agent's own HTTP application that has to answer 2xx, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_path: Option<String>,
    /// Where the agent asks to go, beside what its manifest asks for. It may when the operator grants it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub network: Vec<Destination>,
    /// Callers need one of these roles; those that the package names, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub role_required: Option<Vec<Role>>,
    /// The agents that it may call, and no others; unless given, what `[access] agents` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub calls: Option<Vec<AgentId>>,
}

impl SpawnOptions {
    /// How the agent is probed, or which field is wrong.
    pub fn liveness(&self) -> Result<Liveness, String> {
        let usual = Liveness::default();
        Ok(Liveness {
            interval: probe_time(
                "liveness_interval_seconds",
                self.liveness_interval_seconds,
                usual.interval,
            )?,
            deadline: probe_time(
                "liveness_deadline_seconds",
                self.liveness_deadline_seconds,
                usual.deadline,
            )?,
            path: self.liveness_path.as_deref().map(probe_path).transpose()?,
        })
    }
}

/// So short that a busy machine could not hold it makes no sense, nor does so long that nobody would wait for it.
fn probe_time(field: &str, given: Option<f64>, usual: Duration) -> Result<Duration, String> {
    let Some(seconds) = given else {
        return Ok(usual);
    };
    if seconds != 0.0 && !(0.1..=86_400.0).contains(&seconds) {
        return Err(format!(
            "{field}: {seconds} is neither 0 nor between 0.1 and 86400"
        ));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn probe_path(path: &str) -> Result<String, String> {
    let is_path = path.starts_with('/')
        && path.len() <= 1024
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let shown: String = path.escape_debug().take(80).collect();
    is_path
        .then(|| path.to_owned())
        .ok_or_else(|| format!("liveness_path: `{shown}` is no path such as /live"))
}

/// The field `options` of `POST /supervisor/deploy`; the field `file` with the package's bytes follows it.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct DeployOptions {
    /// Without one, the package's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Without one, the package's `name@version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_id: Option<String>,
    /// Above everything the package sets, below the runtime's own variables.
    #[serde(default)]
    pub env_vars: BTreeMap<String, String>,
    /// Like `env_vars` and above them, but kept apart, readable by the owner only, and never shown.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// The new release starts beside the running one and gets this share of the calls, until it is promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_percent: Option<f64>,
    /// Where the agent may go from now on, in the word of the operator who deploys it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub grant_network: Vec<Destination>,
    #[serde(flatten)]
    pub options: SpawnOptions,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Spawned {
    /// `success`
    pub status: String,
    pub process_id: String,
    pub port: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// `success`
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Done {
    pub fn success() -> Self {
        Self {
            status: "success".to_owned(),
            message: None,
        }
    }
}

/// `GET /supervisor/status`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SupervisorStatus {
    /// `running`
    pub supervisor: String,
    /// Grows by at least one with every change of any agent.
    pub generation: u64,
    pub processes: BTreeMap<String, ProcessStatus>,
    /// Ids of the agents that take calls now.
    pub routes: Vec<String>,
    /// Why what is wanted could not be kept lately: it holds only until the supervisor ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsaved: Option<String>,
    /// Absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsStatus>,
}

/// What callers of the supervisor are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TlsStatus {
    /// `none`, `optional` or `required`: whether callers are asked for a certificate.
    pub client_auth: String,
    /// When the certificate that is in use was read.
    pub loaded_at: String,
    /// Why what has been put in place since cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProcessStatus {
    pub agent_id: String,
    pub package_id: String,
    /// SHA-256 of the package's bytes.
    pub package_digest: String,
    pub port: Option<u16>,
    pub grpc_port: Option<u16>,
    pub state: ProcessState,
    /// What a starting agent is busy with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// The worker's.
    pub pid: Option<u32>,
    pub agent_pid: Option<u32>,
    /// Seconds since it became ready.
    pub uptime: Option<f64>,
    pub restart_count: u32,
    /// Why it is not running.
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
    /// Seconds until the next restart of a crashed agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_in: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// What went through its proxy, since this supervisor began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressFigures>,
    /// What it may have, and what of that holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// What keeps it apart, once it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// What is not there because nobody calls: the next call brings it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleState>,
    /// The number of the release that takes the calls.
    #[serde(default)]
    pub release: u32,
    /// How many replicas are wanted.
    #[serde(default)]
    pub replicas: u32,
    /// All that lives or could, of whichever release.
    #[serde(default)]
    pub instances: Vec<ReplicaStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStatus>,
    /// A release that is coming in, or the last one that did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Callers need one of these roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub role_required: Vec<Role>,
    /// The agents that it may call, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub calls: Option<Vec<AgentId>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum IdleState {
    /// Its processes are held still.
    Frozen,
    Stopped,
}

/// One replica of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaStatus {
    /// Which of the replicas of its release, from zero.
    pub slot: u32,
    pub release: u32,
    /// The incarnation; never the same twice.
    pub replica: Option<u64>,
    pub state: ProcessState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleState>,
    pub port: Option<u16>,
    pub grpc_port: Option<u16>,
    /// The worker's.
    pub pid: Option<u32>,
    pub agent_pid: Option<u32>,
    /// Seconds since it became ready.
    pub uptime: Option<f64>,
    pub restart_count: u32,
    pub error: Option<String>,
}

/// A release that gets a share of the calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CanaryStatus {
    pub release: u32,
    /// Of the calls, of 100.
    pub percent: f64,
    /// It has answered, and takes its share.
    pub ready: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutStatus {
    pub release: u32,
    /// Why it was let go; absent while it comes in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `GET /supervisor/agents/{id}/releases`, newest first
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseInfo {
    pub release: u32,
    pub package_id: String,
    pub package_digest: String,
    /// RFC 3339
    pub created_at: String,
    /// `pending`, `live`, `superseded` or `failed`
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It takes the calls.
    pub current: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_percent: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Names of the variables it was given.
    pub env: Vec<String>,
    /// Names of the secrets it was given.
    pub secrets: Vec<String>,
    #[schema(value_type = Object)]
    pub options: SpawnOptions,
}

/// `GET /supervisor/agents/{id}/network`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Network {
    pub agent_id: String,
    pub granted: Vec<Granted>,
    /// What its current release asks for and may not have.
    pub not_granted: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Granted {
    pub destination: String,
    /// RFC 3339
    pub granted_at: String,
}

/// `POST /supervisor/agents/{id}/network/grant` and `…/revoke`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Destinations {
    #[schema(value_type = Vec<String>)]
    pub destinations: Vec<Destination>,
}

/// `POST /supervisor/agents/{id}/secrets`. Has no `Debug`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct NewSecret {
    #[schema(value_type = String)]
    pub name: SecretName,
    pub value: String,
    /// To whom the proxy sends it.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub hosts: Vec<HostPattern>,
    /// Such as `Authorization: Bearer {}`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub header: Option<HeaderTemplate>,
    /// The value itself is in the agent's environment, and not with the proxy.
    #[serde(default)]
    pub as_env: bool,
}

/// A secret without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretInfo {
    pub name: String,
    pub hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    pub as_env: bool,
    /// RFC 3339
    pub set_at: String,
}

/// `GET /supervisor/agents/{id}/secrets`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretList {
    pub agent_id: String,
    pub secrets: Vec<SecretInfo>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// `POST /supervisor/agents/{id}/scale`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Scale {
    pub replicas: u32,
}

/// `POST /supervisor/agents/{id}/rollback`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rollback {
    /// Without one: the canary is let go, or the last release before the current one that was live comes back.
    #[serde(default)]
    pub release: Option<u32>,
}

/// Of the agent's whole tree of processes, worker included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    pub pid: u32,
    pub status: String,
    pub memory: Memory,
    pub cpu: Cpu,
    pub io: Option<Io>,
    pub num_threads: u64,
    pub num_fds: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Memory {
    pub rss_bytes: u64,
    pub vms_bytes: u64,
    /// With a fair share of what processes share; absent where there are too many to count.
    #[serde(default)]
    pub pss_bytes: Option<u64>,
    pub percent: f64,
    /// Of the agent without its worker: what counts against `limit_bytes`.
    #[serde(default)]
    pub limited_bytes: Option<u64>,
    #[serde(default)]
    pub limit_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cpu {
    /// Of one core, over the life of the processes.
    pub percent: f64,
    /// Seconds.
    pub user_time: f64,
    /// Seconds.
    pub system_time: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Io {
    pub read_bytes: u64,
    pub write_bytes: u64,
}

/// `GET /supervisor/health`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FleetHealth {
    /// `healthy` when every agent is, else `degraded`.
    pub status: String,
    pub total_agents: usize,
    pub healthy_agents: usize,
    pub agent_health: BTreeMap<String, AgentHealth>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum AgentHealth {
    Healthy {
        agent_id: String,
        #[schema(value_type = Object)]
        details: Value,
    },
    Unhealthy {
        status_code: u16,
    },
    Error {
        error: String,
    },
}

/// `GET /runtime/health`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RuntimeHealth {
    /// `healthy`
    pub status: String,
    pub version: String,
    /// `supervisor`
    pub mode: String,
    /// Seconds since 1970.
    pub timestamp: f64,
}

/// `GET /supervisor/logs`, newest first
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Logs {
    pub logs: Vec<LogRecord>,
    pub count: usize,
    /// What people should know of this answer, such as that older lines were not looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogRecord {
    pub process_id: String,
    /// RFC 3339, UTC, milliseconds.
    pub timestamp: String,
    pub level: Level,
    pub message: String,
    pub extra: LogExtra,
    /// Grows from line to line of all agents, also from one life of the supervisor to the next: who follows goes on
    /// after it. None for what is no line of an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogExtra {
    pub stream: Stream,
    /// The incarnation that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<u64>,
    /// The call that wrote it, as its caller was told in `x-request-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
}

/// `GET /supervisor/events`, newest first
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Events {
    pub events: Vec<Event>,
    pub count: usize,
}

/// One line of the answer to `POST /supervisor/deploy` when it is asked for as `application/x-ndjson`;
/// the last line, and the whole answer otherwise, is `Deployed` or `Failed`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DeployEvent {
    Checked {
        package_id: String,
        package_digest: String,
        warnings: Vec<String>,
    },
    Progress {
        message: String,
    },
    Deployed(Deployed),
    Failed {
        detail: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceback: Option<String>,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Deployed {
    pub agent_id: String,
    pub process_id: String,
    pub package_id: String,
    pub package_digest: String,
    pub port: u16,
    pub grpc_port: u16,
    /// The path on the supervisor to call, such as `/agents/hello/invoke`.
    pub invoke_path: String,
    /// The number of the new release.
    #[serde(default)]
    pub release: u32,
    /// Its share of the calls, of 100, if it is a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_percent: Option<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `POST /supervisor/upgrade`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpgradeRequest {
    /// The absolute path of the binary that is to go on, on the supervisor's machine.
    pub binary: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upgraded {
    /// The supervisor's process from now on.
    pub pid: u32,
}
