//! `par up`: the supervisor.

use std::path::PathBuf;

use clap::Args;
use par_supervisor::{Given, Settings};
use tracing::level_filters::LevelFilter;

use super::Context;
use crate::doors;
use crate::exit::{Exit, Problem};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
        par up                                  on 127.0.0.1:8000, agents from port 8001 up\n  \
        par up --port 0 --json                  any free port; the first line says which\n  \
        par up --config par.toml                with the agents that the file lists\n  \
        par up --tls-cert c.pem --tls-key k.pem https://127.0.0.1:8000\n\n\
        A flag wins over its PAR_ variable, the variable over par.toml, par.toml over the default.")]
pub(crate) struct Up {
    /// The address to listen on; anything but loopback opens it to others [default: 127.0.0.1]
    #[arg(long, env = "PAR_HOST")]
    host: Option<String>,

    /// The port to listen on; 0 takes any free one [default: 8000]
    #[arg(long, env = "PAR_PORT")]
    port: Option<u16>,

    /// Where packages, environments and logs are kept [default: ~/.local/state/par]
    #[arg(long, env = "PAR_STATE", value_name = "FOLDER")]
    state: Option<PathBuf>,

    /// HTTP ports for agents; their gRPC ports lie 10000 higher [default: 8001-8999]
    #[arg(long, env = "PAR_AGENT_PORTS", value_name = "A-B")]
    agent_ports: Option<String>,

    /// Settings, and agents to start [default: par.toml, if there is one]
    #[arg(long, env = "PAR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// The Python that agents run on [default: python3 of the PATH]
    #[arg(long, env = "PAR_PYTHON", value_name = "PATH")]
    python: Option<PathBuf>,

    /// How long an agent may take until it answers [default: 60]
    #[arg(long, env = "PAR_START_TIMEOUT", value_name = "SECONDS")]
    start_timeout: Option<f64>,

    /// How long agents go on when the supervisor is gone, for the next one to find them [default: 60]
    #[arg(long, env = "PAR_WORKER_GRACE", value_name = "SECONDS")]
    worker_grace: Option<f64>,
    /// What holds limits: auto, cgroup2, cgroup1 or rlimits [default: auto, the best there is]
    #[arg(long, env = "PAR_LIMITS_BY", value_name = "MEANS")]
    limits_by: Option<String>,

    /// Serve over TLS with this certificate (PEM, the chain after it); read again when it changes
    #[arg(long, env = "PAR_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The key of the certificate (PEM)
    #[arg(long, env = "PAR_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Let in only who shows a certificate of one of these authorities (PEM)
    #[arg(long, env = "PAR_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,

    /// What keeps agents apart: auto, full, userns, restricted or unsafe [default: auto, the strongest that holds here]
    #[arg(long, env = "PAR_ISOLATION", value_name = "PROFILE")]
    isolation: Option<String>,

    /// The key that secrets are sealed with: 32 bytes, mode 0600 [default: one that is made in the state folder]
    #[arg(long, env = "PAR_SECRET_KEY_FILE", value_name = "FILE")]
    secret_key_file: Option<PathBuf>,

    /// What is logged to standard error: off, error, warn, info, debug or trace
    #[arg(long, env = "PAR_LOG", value_name = "LEVEL", default_value = "info")]
    log: LevelFilter,
}

impl Up {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<()> {
        let settings = settings(Given {
            host: self.host,
            port: self.port,
            state: self.state,
            agent_ports: self.agent_ports,
            python: self.python,
            start_timeout: self.start_timeout,
            worker_grace: self.worker_grace,
            limits_by: self.limits_by,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            tls_client_ca: self.tls_client_ca,
            isolation: self.isolation,
            secret_key_file: self.secret_key_file,
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            config: self.config,
        })?;
        doors::supervisor(settings, self.log, context.terminal)
    }
}

/// Everything that is wrong with the settings is wrong usage.
pub(super) fn settings(given: Given) -> Result<Settings, Problem> {
    Settings::resolve(given).map_err(|mistakes| {
        Problem::new(Exit::Usage, "the settings cannot be used").because(mistakes)
    })
}
