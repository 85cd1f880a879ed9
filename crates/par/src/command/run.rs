//! `par run`: one package, without a supervisor.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use par_model::control::{EndCause, Report};
use par_model::log::LogLine;
use par_model::network::Destination;
use par_supervisor::Given;
use par_worker::{Alone, AloneError};

use super::packing::Package;
use super::{Context, up};
use crate::cli::wait_for;
use crate::doors;
use crate::exit::{Exit, Problem};
use crate::terminal::{Terminal, harmless};

const GRPC_OFFSET: u16 = 10_000;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par run hello-0.1.0.apkg              on 127.0.0.1:8080\n  par run ./hello --port 9001\n  REST_PORT=9001 AGENT_PACKAGE_PATH=hello.apkg par run"
)]
pub(crate) struct Run {
    /// An .apkg file, or a folder with an agent.yaml
    #[arg(env = "AGENT_PACKAGE_PATH", value_name = "FILE|FOLDER")]
    package: PathBuf,

    /// The address to listen on; anything but loopback opens it to others
    #[arg(long, env = "PAR_HOST", default_value = "127.0.0.1")]
    host: IpAddr,

    /// The HTTP port
    #[arg(long, env = "REST_PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// The gRPC port [default: the HTTP port + 10000]
    #[arg(long, env = "A2A_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    grpc_port: Option<u16>,

    /// Where packages and environments are kept [default: ~/.local/state/par]
    #[arg(long, env = "PAR_STATE", value_name = "FOLDER")]
    state: Option<PathBuf>,

    /// The Python that the agent runs on [default: python3 of the PATH]
    #[arg(long, env = "PAR_PYTHON", value_name = "PATH")]
    python: Option<PathBuf>,

    /// What keeps the agent apart: auto, full, userns, restricted or unsafe [default: auto, the strongest that holds here]
    #[arg(long, env = "PAR_ISOLATION", value_name = "PROFILE")]
    isolation: Option<String>,

    /// Where the agent may go: HOST:PORT, *.DOMAIN:PORT, ADDRESS:PORT or https://HOST; may be given several times
    #[arg(long, value_name = "DESTINATION")]
    grant_network: Vec<Destination>,
}

impl Run {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<()> {
        let terminal = context.terminal;
        let package = wait_for(Package::of(&self.package, terminal))?;
        let settings = up::settings(Given {
            state: self.state,
            python: self.python,
            isolation: self.isolation,
            ..Given::default()
        })?;
        let grpc_port = self
            .grpc_port
            .or_else(|| self.port.checked_add(GRPC_OFFSET))
            .ok_or_else(|| {
                Problem::new(
                    Exit::Usage,
                    "no gRPC port lies 10000 above that port; give one with --grpc-port",
                )
            })?;
        let url = format!("http://{}", std::net::SocketAddr::new(self.host, self.port));
        let alone = Alone {
            package: package.path().to_owned(),
            host: self.host,
            port: self.port,
            grpc_port,
            isolation: par_supervisor::walls_alone(&settings).map_err(|why| {
                Problem::new(Exit::Failed, format!("the agent cannot be isolated: {why}")).help(
                    "`par doctor` says what is missing; `--isolation unsafe` keeps nothing apart",
                )
            })?,
            state: settings.state,
            python: settings.python,
            network: self.grant_network,
            install: settings.install,
            supervisor_url: context.client.origin().to_string(),
        };
        let on_report = move |report| tell(terminal, &url, report);
        let on_log = move |line| show(terminal, &line);
        doors::worker_alone(alone, on_report, on_log).map_err(|error| problem(error).into())
    }
}

fn tell(terminal: Terminal, url: &str, report: Report) {
    let told = match report {
        Report::Ready { agent_pid } if terminal.json => {
            let ready = serde_json::json!({ "url": url, "pid": std::process::id(), "agent_pid": agent_pid });
            terminal.print(&ready.to_string())
        }
        Report::Ready { .. } => terminal.print(&format!(
            "serving at {url}\n  try: curl {url}/invoke -d '{{}}'\nCtrl-C ends it."
        )),
        Report::Progress { message } => {
            terminal.note(&harmless(&message));
            Ok(())
        }
        Report::LogsDropped { lines } => {
            terminal.warn(&format!("{lines} lines came too fast and are lost"));
            Ok(())
        }
        _ => Ok(()),
    };
    // An agent serves on when nobody reads its terminal.
    drop(told);
}

fn show(terminal: Terminal, line: &LogLine) {
    if terminal.err.width.is_some() {
        terminal.note(&harmless(&line.message));
    } else {
        terminal.note(&line.message);
    }
}

fn problem(error: AloneError) -> Problem {
    let (exit, message) = match &error {
        AloneError::Package(cause) if cause.blames_the_package() => {
            (Exit::Refused, "the package is refused".to_owned())
        }
        AloneError::Ended {
            cause: EndCause::PortTaken { port },
        } => {
            let help = "name another with --port, or --grpc-port";
            return Problem::new(
                Exit::Failed,
                format!("port {port} is taken by another program"),
            )
            .help(help);
        }
        AloneError::Ended {
            cause: EndCause::LoadFailed { reason, traceback },
        } => {
            let traceback = traceback.as_deref().unwrap_or("");
            (
                Exit::Failed,
                format!("the agent did not come up: {reason}\n{traceback}")
                    .trim_end()
                    .to_owned(),
            )
        }
        _ => (Exit::Failed, "the agent could not be served".to_owned()),
    };
    Problem::new(exit, message).because(error)
}
