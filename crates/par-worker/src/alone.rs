//! `par run`: one package, served without a supervisor.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr as _;
use std::time::Duration;

use par_model::control::{
    CallLimits, EndCause, Folders, InstallRules, IsolationSpec, KnownAs, Liveness, OwnPorts,
    Report, Secret, WorkerSpec,
};
use par_model::egress::Egress;
use par_model::limits::{Grouping, Limits};
use par_model::log::LogLine;
use par_model::network::Destination;
use par_model::{AgentId, ReplicaId, SessionLimits};
use par_package::Store;
use tokio::runtime::LocalOptions;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::egress::policies;
use crate::ending::Ending;
use crate::idle::Idle;
use crate::life;
use crate::reports;

const TERMINATE: i32 = 15;

/// What to run.
pub struct Alone {
    /// An APKG.
    pub package: PathBuf,
    pub host: IpAddr,
    pub port: u16,
    pub grpc_port: u16,
    pub state: PathBuf,
    pub python: Option<PathBuf>,
    pub isolation: IsolationSpec,
    pub install: InstallRules,
    /// Where other agents may be found, such as `http://127.0.0.1:8000`; empty: nowhere.
    pub supervisor_url: String,
    /// Where the agent may go.
    pub network: Vec<Destination>,
}

#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    #[error("failed to prepare the state folder")]
    State(#[source] io::Error),
    #[error("the package was refused")]
    Package(#[source] par_package::PackageError),
    #[error("the package's name is no agent id")]
    Name(#[source] par_model::id::InvalidId),
    #[error("{cause}")]
    Ended { cause: EndCause },
}

/// Serves until the agent ends or this process is told to. `on_report` and `on_log` see what happens meanwhile.
pub fn run_alone(
    alone: Alone,
    mut on_report: impl FnMut(Report) + 'static,
    mut on_log: impl FnMut(LogLine) + 'static,
) -> Result<(), AloneError> {
    par_sandbox::leave_no_core_file().map_err(AloneError::State)?;
    par_sandbox::adopt_orphans().map_err(AloneError::State)?;
    let spec = spec_of(alone)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(AloneError::State)?;
    let cause = runtime.block_on(async {
        let (reporter, mut reports) = reports::channel();
        let (ending_in, ending) = watch::channel(Ending::No);
        let heard = tokio::task::spawn_local(async move {
            let mut tell = |report| match report {
                Report::Log { line } => on_log(line),
                report => on_report(report),
            };
            loop {
                match reports.next().await {
                    None | Some(Report::Ending { .. }) => break,
                    Some(report) => tell(report),
                }
            }
            while let Some(report) = reports.try_next() {
                tell(report);
            }
        });
        // Both until the end of the runtime.
        tokio::task::spawn_local(par_sandbox::reap_orphans().map_err(AloneError::State)?);
        let signals = Signals::listen().map_err(AloneError::State)?;
        tokio::task::spawn_local(interrupted(signals, ending_in));
        let idle = Idle::new(None, reporter.clone());
        let (_unchanged, egress) = policies(&spec.egress);
        let own_ports = Rc::default();
        let cause = life::live(spec, reporter.clone(), ending, idle, egress, own_ports).await;
        reporter.state(Report::Ending {
            cause: cause.clone(),
        });
        let _said_all = heard.await;
        Ok(cause)
    })?;
    match cause {
        EndCause::Asked | EndCause::Exit { code: 0 } => Ok(()),
        // SIGTERM is how a worker that runs alone is asked.
        EndCause::Signal { signal, .. } if signal == TERMINATE => Ok(()),
        cause => Err(AloneError::Ended { cause }),
    }
}

/// The first Ctrl-C drains, and so does the first SIGTERM, which the agent's life hears itself. The second of either
/// does not wait.
async fn interrupted(mut signals: Signals, ending: watch::Sender<Ending>) {
    if signals.next().await == SignalKind::interrupt() {
        ending.send_replace(Ending::Drain {
            within: Duration::from_secs(10),
        });
    }
    let second = signals.next().await;
    std::process::exit(128 + second.as_raw_value());
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}

fn spec_of(alone: Alone) -> Result<WorkerSpec, AloneError> {
    let store = Store::open(&alone.state.join("packages")).map_err(AloneError::Package)?;
    let package = store
        .admit(&alone.package, &par_package::Limits::default())
        .map_err(AloneError::Package)?;
    let agent = AgentId::from_str(&package.manifest.name.to_string()).map_err(AloneError::Name)?;
    Ok(WorkerSpec {
        package_id: package.label(),
        package: package.root,
        replica: ReplicaId(0),
        env: std::collections::BTreeMap::new(),
        host: alone.host,
        port: alone.port,
        grpc_port: alone.grpc_port,
        socket: None,
        control: None,
        secret: Secret(String::new()),
        mark: String::new(),
        outlive: Duration::ZERO,
        restarts: 0,
        idle_timeout: None,
        supervisor_socket: None,
        supervisor_url: alone.supervisor_url,
        folders: Folders {
            environments: alone.state.join("environments"),
            python: alone.state.join("python"),
            sessions: alone.state.join("sessions").join(agent.as_str()),
            workspace: alone.state.join("agents").join(agent.as_str()),
        },
        python: alone.python,
        grouping: Grouping::Without {
            why: "it runs alone".to_owned(),
        },
        wanted: Limits::default(),
        limits_required: false,
        isolation: alone.isolation,
        limits: CallLimits::default(),
        sessions: SessionLimits::default(),
        known_as: KnownAs::default(),
        install: alone.install,
        liveness: Liveness::default(),
        egress: Egress {
            granted: alone.network,
            own_ports: vec![(alone.port, alone.port), (alone.grpc_port, alone.grpc_port)],
            ..Egress::default()
        },
        own_ports: OwnPorts::Open,
        agent,
    })
}
