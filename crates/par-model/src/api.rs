//! Bodies of the control API (port 8000), shared by the supervisor that answers and the command line that asks.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::limits::{Limit, Priority};
use crate::log::{Level, Stream};
use crate::{ProcessState, RestartMode};

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
    /// What it may have, and what of that holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
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
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogRecord {
    pub process_id: String,
    /// RFC 3339, UTC, milliseconds.
    pub timestamp: String,
    pub level: Level,
    pub message: String,
    pub extra: LogExtra,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogExtra {
    pub stream: Stream,
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
