//! The doors to the other crates that run: each is opened here and nowhere else.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;

use crate::terminal::Terminal;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
        par up                                  on 127.0.0.1:8000, agents from port 8001 up\n  \
        par up --port 0 --json                  any free port; the first line says which\n  \
        par up --config par.toml                with the agents that the file lists\n\n\
        A flag wins over its PAR_ variable, the variable over par.toml, par.toml over the default.")]
pub(crate) struct Up {
    /// The address to listen on; anything but loopback opens it to others [default: 127.0.0.1]
    #[arg(long, env = "PAR_HOST")]
    pub(crate) host: Option<IpAddr>,

    /// The port to listen on; 0 takes any free one [default: 8000]
    #[arg(long, env = "PAR_PORT")]
    pub(crate) port: Option<u16>,

    /// Where packages, environments and logs are kept [default: ~/.local/state/par]
    #[arg(long, env = "PAR_STATE", value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,

    /// HTTP ports for agents, such as 8001-8999; their gRPC ports lie 10000 higher
    #[arg(long, env = "PAR_AGENT_PORTS", value_name = "A-B")]
    pub(crate) agent_ports: Option<PortRange>,

    /// Settings, and agents to start [default: par.toml, if there is one]
    #[arg(long, env = "PAR_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The Python that agents run on [default: python3 of the PATH]
    #[arg(long, env = "PAR_PYTHON", value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par run hello-0.1.0.apkg\n  par run hello-0.1.0.apkg --port 9001"
)]
pub(crate) struct Run {
    /// An .apkg file, or a folder with an agent.yaml
    #[arg(env = "AGENT_PACKAGE_PATH", value_name = "FILE|FOLDER")]
    pub(crate) package: PathBuf,

    /// The address to listen on
    #[arg(long, env = "PAR_HOST", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,

    /// The HTTP port; 0 takes any free one
    #[arg(long, env = "REST_PORT", default_value_t = 8080)]
    pub(crate) port: u16,

    /// The gRPC port [default: the HTTP port + 10000]
    #[arg(long, env = "A2A_PORT")]
    pub(crate) grpc_port: Option<u16>,

    /// The Python that the agent runs on [default: python3 of the PATH]
    #[arg(long, env = "PAR_PYTHON", value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRange {
    #[error("write it as FIRST-LAST, such as 8001-8999")]
    Form,
    #[error("the first port is after the last")]
    Order,
    #[error("the ports must be 1 to 55535: gRPC ports lie 10000 higher")]
    Bounds,
}

impl FromStr for PortRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let (first, last) = text.split_once('-').ok_or(InvalidRange::Form)?;
        let port = |text: &str| text.trim().parse().map_err(|_| InvalidRange::Form);
        let (first, last): (u16, u16) = (port(first)?, port(last)?);
        if first > last {
            return Err(InvalidRange::Order);
        }
        if first == 0 || last > 55_535 {
            return Err(InvalidRange::Bounds);
        }
        Ok(Self { first, last })
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

pub(crate) fn up(_up: Up, _terminal: Terminal) -> anyhow::Result<()> {
    anyhow::bail!("the supervisor is not built yet")
}

pub(crate) fn run(_run: Run) -> anyhow::Result<()> {
    anyhow::bail!("the worker is not built yet")
}

/// The subcommands that only our own processes use. They come before anything is parsed: an agent's process must
/// not pay for that, nor be confused by what looks like a flag.
pub(crate) fn hidden(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    match arguments.nth(1)?.to_str()? {
        "__confine" => Some(confine(arguments)),
        "worker" => Some(worker()),
        _ => None,
    }
}

fn confine(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let error = par_sandbox::confine(arguments);
    report(&format!("failed to start the agent's process: {error}"))
}

fn worker() -> ExitCode {
    report("the worker is not built yet")
}

fn report(failure: &str) -> ExitCode {
    Terminal::detect(false).note(&format!("par: {failure}"));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_is_two_ports_in_order_that_leave_room_for_grpc() {
        let range = |text: &str| text.parse::<PortRange>();
        assert_eq!(
            range("8001-8010"),
            Ok(PortRange {
                first: 8001,
                last: 8010
            })
        );
        assert_eq!(range("8001"), Err(InvalidRange::Form));
        assert_eq!(range("8010-8001"), Err(InvalidRange::Order));
        assert_eq!(range("0-10"), Err(InvalidRange::Bounds));
        assert_eq!(range("8001-60000"), Err(InvalidRange::Bounds));
    }
}
