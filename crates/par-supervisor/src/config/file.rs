//! `par.toml`.
//!
//! ```toml
//! host = "127.0.0.1"
//! port = 8000
//! state = "/var/lib/par"
//! agent_ports = "8001-8999"
//! python = "/usr/bin/python3"
//! start_timeout_seconds = 60
//! drain_timeout_seconds = 10
//! stable_after_seconds = 10
//! call_timeout_seconds = 60
//! worker_grace_seconds = 60
//! retire_timeout_seconds = 600
//! upgrade_drain_seconds = 3600
//! body_limit_mb = 64
//! limits_by = "auto"           # or cgroup2, cgroup1, rlimits
//!
//! [isolation]
//! profile = "auto"             # or full, userns, restricted, unsafe
//! minimum = "restricted"       # nothing starts with less
//!
//! [packages]                   # dependencies of agents
//! source_distributions = false # true: packages without a wheel are built, which runs their code
//! hosts = []                   # to download from, beside those of the package index
//! environment_mb = 8192        # of one set of dependencies
//! deadline_seconds = 900
//!
//! [limits]                     # of agents that ask for no other; 0: none
//! memory_limit_mb = 2048
//! pids_limit = 512
//! open_files_limit = 1024
//! workspace_limit_mb = 1024
//!
//! [execution]                  # of each agent that runs code in sessions
//! sessions = 1000
//! idle_seconds = 5400
//! running = 64
//! timeout_seconds = 60
//! output_limit_kb = 1024
//! result_limit_kb = 8192
//! warm = 2
//!
//! [logs]                       # of what agents write, on disk
//! file_mb = 10
//! files = 5                    # of each agent
//! days = 14
//! total_mb = 1024              # of all agents together
//!
//! [door]                       # of callers; 0: no limit
//! connections_per_address = 512
//! calls_per_caller = 512       # at one time
//! rate_per_caller = 0          # a second
//! hosts = ["par.example.com"]  # names of ours, beside addresses and localhost
//! origins = []                 # of pages that may use us
//!
//! [tls]
//! cert = "cert.pem"            # read again when it changes
//! key = "key.pem"
//! client_ca = "clients.pem"
//! client_auth = "required"     # or optional, none
//! [access]                     # who may call: see access.rs
//! anonymous_loopback = true
//!
//! [[agents]]
//! id = "hello"                 # without one, the package's name
//! package = "hello-0.1.0.apkg" # or a folder; relative to this file
//! env = { GREETING = "hi" }
//! restart_policy = "on-failure"
//!
//! [[webhooks]]                 # told what happens
//! url = "https://example.com/hook"
//! secret_file = "hook.secret"  # or secret = "whsec_…"
//! events = ["crashed", "failed"] # without it, all
//! agents = ["hello"]           # without it, all, and the supervisor
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use par_model::api::SpawnOptions;
use par_model::control::InstallRules;
use par_model::{AgentId, RestartMode, SessionLimits};
use toml::de::{DeTable, DeValue};

use super::door::DoorSettings;
use super::table::{Notes, Value};
use super::{Mistake, access, door, execution, isolation, limits, logs, packages, tls, webhooks};
use crate::access::AccessSettings;
use crate::bounds;
use crate::events::webhooks::Webhook;
use crate::limits::LimitDefaults;
use crate::logs::LogSettings;

/// An agent that is started with the supervisor.
#[derive(Clone, Debug, PartialEq)]
pub struct FileAgent {
    pub id: Option<AgentId>,
    pub package: PathBuf,
    pub env: BTreeMap<String, String>,
    pub options: SpawnOptions,
}

/// Values with the places where they were written.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) host: Option<(String, String)>,
    pub(super) port: Option<u16>,
    pub(super) state: Option<PathBuf>,
    pub(super) agent_ports: Option<(String, String)>,
    pub(super) python: Option<(String, PathBuf)>,
    pub(super) start_timeout: Option<(String, f64)>,
    pub(super) drain_timeout: Option<(String, f64)>,
    pub(super) stable_after: Option<(String, f64)>,
    pub(super) call_timeout: Option<(String, f64)>,
    pub(super) worker_grace: Option<(String, f64)>,
    pub(super) retire_timeout: Option<(String, f64)>,
    pub(super) upgrade_drain: Option<(String, f64)>,
    pub(super) body_limit_mb: Option<(String, u64)>,
    pub(super) limits_by: Option<(String, String)>,
    pub(super) isolation: isolation::Written,
    pub(super) packages: InstallRules,
    pub(super) limits: LimitDefaults,
    pub(super) execution: SessionLimits,
    pub(super) logs: LogSettings,
    pub(super) door: DoorSettings,
    pub(super) tls: tls::Written,
    pub(super) access: AccessSettings,
    pub(super) agents: Vec<FileAgent>,
    pub(super) webhooks: Vec<Webhook>,
}

const USUAL: &str = "par.toml";

impl File {
    /// Reads `chosen`, which has to be there, or `par.toml` in the current folder, which need not.
    pub(super) fn read(chosen: Option<&Path>, mistakes: &mut Vec<Mistake>) -> Self {
        let path = chosen.unwrap_or_else(|| Path::new(USUAL));
        let place = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if chosen.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Self::default();
            }
            Err(error) => {
                mistakes.push(Mistake {
                    place,
                    message: format!("failed to read it: {error}"),
                });
                return Self::default();
            }
        };
        let name = path
            .file_name()
            .map_or(place, |name| name.to_string_lossy().into_owned());
        let mut notes = Notes {
            name,
            text: &text,
            mistakes,
        };
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in errors {
            notes.note(&error.span().unwrap_or_default(), error.message());
        }
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        Self::from_table(table.get_ref(), folder, &mut notes)
    }

    fn from_table(table: &DeTable<'_>, folder: &Path, notes: &mut Notes<'_>) -> Self {
        const KNOWN: [&str; 24] = [
            "host",
            "port",
            "state",
            "agent_ports",
            "python",
            "start_timeout_seconds",
            "drain_timeout_seconds",
            "stable_after_seconds",
            "call_timeout_seconds",
            "worker_grace_seconds",
            "retire_timeout_seconds",
            "upgrade_drain_seconds",
            "body_limit_mb",
            "limits_by",
            "isolation",
            "packages",
            "limits",
            "execution",
            "logs",
            "door",
            "tls",
            "access",
            "agents",
            "webhooks",
        ];
        let mut file = Self::default();
        for (key, value) in table {
            let place = notes.place(&value.span());
            match key.get_ref().as_ref() {
                "host" => file.host = notes.text("host", value).map(|text| (place, text)),
                "port" => file.port = notes.whole("port", value),
                "state" => file.state = notes.path("state", value).map(|path| folder.join(path)),
                "agent_ports" => {
                    file.agent_ports = notes.text("agent_ports", value).map(|text| (place, text))
                }
                "python" => file.python = notes.path("python", value).map(|path| (place, path)),
                "start_timeout_seconds" => {
                    file.start_timeout = notes
                        .number(key.get_ref(), value)
                        .map(|number| (place, number))
                }
                "drain_timeout_seconds" => {
                    file.drain_timeout = notes
                        .number(key.get_ref(), value)
                        .map(|number| (place, number))
                }
                "stable_after_seconds" => {
                    file.stable_after = notes
                        .number(key.get_ref(), value)
                        .map(|number| (place, number))
                }
                "call_timeout_seconds" => {
                    file.call_timeout = notes
                        .number(key.get_ref(), value)
                        .map(|number| (place, number))
                }
                "worker_grace_seconds" => {
                    file.worker_grace = notes
                        .number(key.get_ref(), value)
                        .map(|number| (place, number))
                }
                "retire_timeout_seconds" => {
                    file.retire_timeout = notes
                        .number(key.get_ref(), value)
                        .map(|number| (place, number))
                }
                "upgrade_drain_seconds" => {
                    file.upgrade_drain = notes
                        .number(key.get_ref(), value)
                        .map(|number| (place, number))
                }
                "body_limit_mb" => {
                    file.body_limit_mb = notes
                        .whole(key.get_ref(), value)
                        .map(|number| (place, number))
                }
                "limits_by" => {
                    file.limits_by = notes.text("limits_by", value).map(|text| (place, text))
                }
                "isolation" => file.isolation = isolation::read(value, notes),
                "packages" => file.packages = packages::read(value, notes),
                "limits" => file.limits = limits::read(value, notes),
                "execution" => file.execution = execution::read(value, notes),
                "logs" => file.logs = logs::read(value, notes),
                "door" => file.door = door::read(value, notes),
                "tls" => file.tls = tls::read(value, folder, notes),
                "access" => file.access = access::read(value, folder, notes),
                "agents" => file.agents = agents(value, folder, notes),
                "webhooks" => file.webhooks = webhooks::read(value, folder, notes),
                unknown => notes.unknown(unknown, &key.span(), &KNOWN),
            }
        }
        file
    }
}

fn agents(value: &Value<'_>, folder: &Path, notes: &mut Notes<'_>) -> Vec<FileAgent> {
    let DeValue::Array(entries) = value.get_ref() else {
        return notes
            .expected::<Vec<_>>("agents", "a list of tables", value.get_ref(), value.span())
            .unwrap_or_default();
    };
    let mut agents: Vec<FileAgent> = vec![];
    for entry in entries {
        let Some(agent) = agent(entry, folder, notes) else {
            continue;
        };
        if agent.id.is_some() && agents.iter().any(|other| other.id == agent.id) {
            notes.note(&entry.span(), "another agent has the same `id`");
        }
        agents.push(agent);
    }
    agents
}

fn agent(entry: &Value<'_>, folder: &Path, notes: &mut Notes<'_>) -> Option<FileAgent> {
    const KNOWN: [&str; 25] = [
        "id",
        "package",
        "env",
        "memory_limit_mb",
        "cpu_limit",
        "pids_limit",
        "open_files_limit",
        "workspace_limit_mb",
        "priority",
        "require_limits",
        "restart_policy",
        "max_restarts",
        "restart_delay_seconds",
        "backoff_multiplier",
        "max_restart_delay_seconds",
        "max_restarts_in_period",
        "restart_period_seconds",
        "replicas",
        "idle_timeout_seconds",
        "idle_stop_seconds",
        "liveness_interval_seconds",
        "liveness_deadline_seconds",
        "liveness_path",
        "role_required",
        "calls",
    ];
    let (mut id, mut package, mut env, mut options) =
        (None, None, BTreeMap::new(), SpawnOptions::default());
    for (key, value) in notes.table("agents", entry)? {
        let name = key.get_ref().as_ref();
        match name {
            "id" => id = parsed(name, value, notes),
            "package" => package = notes.path(name, value).map(|path| folder.join(path)),
            "env" => env = variables(value, notes),
            "memory_limit_mb" => options.memory_limit_mb = notes.whole(name, value),
            "cpu_limit" => options.cpu_limit = notes.number(name, value),
            "pids_limit" => options.pids_limit = notes.whole(name, value),
            "open_files_limit" => options.open_files_limit = notes.whole(name, value),
            "workspace_limit_mb" => options.workspace_limit_mb = notes.whole(name, value),
            "priority" => options.priority = limits::priority(value, notes),
            "require_limits" => options.require_limits = notes.truth(name, value),
            "restart_policy" => options.restart_policy = restart_mode(value, notes),
            "max_restarts" => options.max_restarts = notes.whole(name, value),
            "restart_delay_seconds" => options.restart_delay_seconds = notes.number(name, value),
            "backoff_multiplier" => options.backoff_multiplier = notes.number(name, value),
            "max_restart_delay_seconds" => {
                options.max_restart_delay_seconds = notes.number(name, value)
            }
            "max_restarts_in_period" => options.max_restarts_in_period = notes.whole(name, value),
            "restart_period_seconds" => options.restart_period_seconds = notes.number(name, value),
            "replicas" => options.replicas = notes.whole(name, value),
            "idle_timeout_seconds" => options.idle_timeout_seconds = notes.number(name, value),
            "idle_stop_seconds" => options.idle_stop_seconds = notes.number(name, value),
            "liveness_interval_seconds" => {
                options.liveness_interval_seconds = notes.number(name, value)
            }
            "liveness_deadline_seconds" => {
                options.liveness_deadline_seconds = notes.number(name, value)
            }
            "liveness_path" => options.liveness_path = notes.text(name, value),
            "role_required" => options.role_required = Some(access::listed(name, value, notes)),
            "calls" => options.calls = Some(access::listed(name, value, notes)),
            unknown => notes.unknown(unknown, &key.span(), &KNOWN),
        }
    }
    for wrong in bounds::of_options(&options) {
        notes.note(&place_of(entry, wrong.field), wrong.message);
    }
    let Some(package) = package else {
        if !entry
            .get_ref()
            .as_table()
            .is_some_and(|table| table.contains_key("package"))
        {
            notes.note(&entry.span(), "an agent needs a `package`");
        }
        return None;
    };
    Some(FileAgent {
        id,
        package,
        env,
        options,
    })
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    key: &str,
    value: &Value<'_>,
    notes: &mut Notes<'_>,
) -> Option<T> {
    let text = notes.text(key, value)?;
    text.parse()
        .map_err(|error: T::Err| notes.note(&value.span(), error.to_string()))
        .ok()
}

fn restart_mode(value: &Value<'_>, notes: &mut Notes<'_>) -> Option<RestartMode> {
    let text = notes.text("restart_policy", value)?;
    let mode = serde_json::from_value(serde_json::Value::String(text));
    mode.map_err(|_| {
        notes.note(
            &value.span(),
            "`restart_policy` is on-failure, always or never",
        )
    })
    .ok()
}

fn variables(value: &Value<'_>, notes: &mut Notes<'_>) -> BTreeMap<String, String> {
    let Some(table) = notes.table("env", value) else {
        return BTreeMap::new();
    };
    let mut variables = BTreeMap::new();
    for (name, value) in table {
        if let Some(text) = notes.text(name.get_ref(), value) {
            variables.insert(name.get_ref().to_string(), text);
        }
    }
    for wrong in bounds::of_env("env", &variables) {
        notes.note(&value.span(), wrong);
    }
    variables
}

/// Of the value of a key, or of the whole table without one.
fn place_of(entry: &Value<'_>, key: &str) -> Range<usize> {
    let value = entry.get_ref().get(key);
    value.map_or_else(|| entry.span(), |value| value.span())
}
