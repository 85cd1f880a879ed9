//! `par up`: puts the rooms together, serves, and ends in order.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use par_gateway::{Config, Gateway, Listeners, Routes};
use par_lifecycle::{Command, Fleet};
use par_model::control::CallLimits;
use par_model::limits::group_name;
use par_package::Store;
use par_sandbox::Groups;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tower::ServiceExt as _;
use tracing::{info, warn};

use crate::api::{Api, Deployments, Intake, Outcome, outcome_of, router};
use crate::catalog::Made;
use crate::config::{FileAgent, GRPC_OFFSET, Settings};
use crate::driver::Driver;
use crate::effects::{Effects, Ground};
use crate::logs::LogStore;
use crate::message::{Control, Message, Running};
use crate::snapshot::Snapshot;
use crate::state::{StateError, StateFolder};

/// What is said once, when the supervisor serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Such as `http://127.0.0.1:8000`.
    pub url: String,
    pub pid: u32,
    pub state: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    State(#[from] StateError),
    #[error("failed to open the package store")]
    Store(#[source] par_package::PackageError),
    #[error("failed to start")]
    Io(#[from] io::Error),
}

const WAITING_MESSAGES: usize = 1024;
/// For connections of callers, when all agents have ended.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Serves until the first signal, then ends in order; a second signal ends what is left at once.
pub fn run(settings: Settings, announce: impl FnOnce(&Announcement)) -> Result<(), StartError> {
    par_sandbox::adopt_orphans()?;
    let address = SocketAddr::new(settings.host, settings.port);
    let public =
        TcpListener::bind(address).map_err(|source| StartError::Listen { address, source })?;
    let state = StateFolder::open(&settings.state)?;
    let internal = UnixListener::bind(state.supervisor_socket())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let daemon = Daemon {
        settings,
        state,
        public,
        internal,
    };
    let served = LocalSet::new().block_on(&runtime, daemon.serve(announce));
    // What is still being deleted keeps nobody waiting: the next life goes on with it.
    runtime.shutdown_background();
    served
}

struct Daemon {
    settings: Settings,
    state: StateFolder,
    public: TcpListener,
    internal: UnixListener,
}

impl Daemon {
    async fn serve(self, announce: impl FnOnce(&Announcement)) -> Result<(), StartError> {
        // Heard from the first moment on: a signal that comes early is not lost.
        let mut signals = Signals::listen()?;
        // Until the end of the runtime.
        tokio::task::spawn_local(par_sandbox::reap_orphans()?);
        let Self {
            settings,
            state,
            public,
            internal,
        } = self;
        let local = public.local_addr()?;
        let announcement = Announcement {
            url: url_of(local),
            pid: std::process::id(),
            state: state.root().to_owned(),
        };
        let intake = Intake::new(
            Store::open(&state.packages()).map_err(StartError::Store)?,
            state.uploads(),
        );
        let sockets = state.supervisor_socket().with_file_name("");
        let (messages, mailbox) = mpsc::channel(WAITING_MESSAGES);
        let (snapshots_in, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let logs = Arc::new(LogStore::default());
        let control = Control::new(messages.clone(), snapshots, Arc::clone(&logs));
        let routes = Routes::default();
        let groups = open_groups(&settings, state.root());
        // Nothing of an earlier life goes on: its workers end with it.
        groups.sweep(&[]).await;
        let api_groups = Arc::clone(&groups);
        let ground = ground(&settings, state, &announcement, logs, messages, groups);
        let mut effects = Effects::new(ground);
        effects.sweep();
        let driver = Driver::new(
            Fleet::new(fleet_settings(&settings)),
            mailbox,
            effects,
            routes.clone(),
            snapshots_in,
        );
        let driving = tokio::task::spawn_local(driver.run());
        let api = Arc::new(Api {
            control: control.clone(),
            intake: intake.clone(),
            host: settings.host,
            deployments: Deployments::default(),
            sockets,
            groups: Arc::clone(&api_groups),
        });
        let gateway = open_gateway(
            Listeners {
                public,
                internal: Some(internal),
            },
            routes,
            api,
            &control,
            settings.call_timeout,
        )?;
        announce(&announcement);
        let starting =
            tokio::task::spawn_local(start_agents(settings.agents, control.clone(), intake));
        signals.next().await;
        starting.abort();
        end(&control, &mut signals, gateway).await;
        driving.abort();
        api_groups.close();
        Ok(())
    }
}

fn open_groups(settings: &Settings, state: &Path) -> Arc<Groups> {
    let groups = Groups::open(&group_name(state), settings.limits_by);
    if let Some(why) = groups.why_not() {
        warn!(
            why,
            "there are no control groups: limits are held by rlimits and watchdogs, or not at all"
        );
    }
    Arc::new(groups)
}

fn url_of(local: SocketAddr) -> String {
    let host = if local.ip().is_unspecified() {
        "127.0.0.1".to_owned()
    } else {
        SocketAddr::new(local.ip(), 0).ip().to_string()
    };
    if local.is_ipv6() && !local.ip().is_unspecified() {
        return format!("http://[{host}]:{}", local.port());
    }
    format!("http://{host}:{}", local.port())
}

fn ground(
    settings: &Settings,
    state: StateFolder,
    announcement: &Announcement,
    logs: Arc<LogStore>,
    events: mpsc::Sender<Message>,
    groups: Arc<Groups>,
) -> Rc<Ground> {
    Rc::new(Ground {
        state,
        host: settings.host,
        url: announcement.url.clone(),
        python: settings.python.clone(),
        limits: CallLimits {
            deadline: settings.call_timeout,
            body: settings.body_limit,
            ..CallLimits::default()
        },
        sessions: settings.execution,
        wanted: settings.limits.clone(),
        groups,
        logs,
        events,
        workers: std::cell::RefCell::default(),
    })
}

fn fleet_settings(settings: &Settings) -> par_lifecycle::Settings {
    par_lifecycle::Settings {
        ports: settings.agent_ports.clone(),
        grpc_offset: GRPC_OFFSET,
        start_timeout: settings.start_timeout,
        drain_timeout: settings.drain_timeout,
        stable_after: settings.stable_after,
        ..par_lifecycle::Settings::default()
    }
}

fn open_gateway(
    listeners: Listeners,
    routes: Routes,
    api: Arc<Api>,
    control: &Control,
    call_timeout: Duration,
) -> io::Result<Gateway> {
    let snapshots = control.snapshots.clone();
    let callers = Arc::new(move |pid: u32| snapshots.borrow().workers.get(&pid).cloned());
    let router = router(api);
    let answer = Arc::new(
        move |request: http::Request<hyper::body::Incoming>, _peer| {
            let router = router.clone();
            let answered = async move {
                let response = router.oneshot(request.map(axum::body::Body::new)).await;
                let response = response.unwrap_or_else(|never| match never {});
                response.map(|body| body.map_err(Into::into).boxed_unsync())
            };
            Box::pin(answered) as par_gateway::ControlAnswer
        },
    );
    let control = par_gateway::Control {
        runtime: tokio::runtime::Handle::current(),
        answer,
    };
    let config = Config {
        call_timeout,
        ..Config::default()
    };
    par_gateway::start(listeners, config, routes, control, callers)
}

/// Starts the agents that `par.toml` lists, side by side. What cannot be started is said and hinders nobody else.
async fn start_agents(agents: Vec<FileAgent>, control: Control, intake: Intake) {
    let starts = agents
        .into_iter()
        .map(|listed| start_agent(listed, control.clone(), intake.clone()));
    futures_util::future::join_all(starts).await;
}

async fn start_agent(listed: FileAgent, control: Control, intake: Intake) {
    let shown = listed.package.display().to_string();
    let package = match intake.admit_in_the_background(listed.package).await {
        Ok(package) => package,
        Err(error) => {
            return warn!(
                package = shown,
                error = crate::chain(&error),
                "a listed agent was not started"
            );
        }
    };
    let named = listed
        .id
        .map_or_else(|| package.manifest.name.to_string().parse(), Ok);
    let agent = match named {
        Ok(agent) => agent,
        Err(error) => return warn!(package = shown, %error, "a listed agent was not started"),
    };
    let made = Made {
        agent,
        package_id: package.label(),
        digest: package.digest,
        package: package.root,
        env: listed.env,
        options: listed.options,
    };
    let agent = made.agent.clone();
    match control.deploy(made, Running::Refuse).await {
        Ok(release) => match outcome_of(&control, &agent, release, |_| {}).await {
            Outcome::Ready { port, .. } => info!(%agent, port, "listed agent is ready"),
            Outcome::Failed(cause) => warn!(%agent, %cause, "a listed agent did not start"),
            Outcome::Withdrawn => {}
        },
        Err(refusal) => warn!(%agent, %refusal, "a listed agent was not started"),
    }
}

/// First all agents, then those who call them, then us.
async fn end(control: &Control, signals: &mut Signals, gateway: Gateway) {
    info!("ending: calls in flight may finish, a second signal ends them");
    let _already_ending = control.command(Command::StopAll).await;
    let mut snapshots = control.snapshots.clone();
    let all_ended = snapshots.wait_for(|snapshot| snapshot.is_empty());
    tokio::select! {
        _ended = all_ended => {}
        () = signals.next() => {
            warn!("second signal: ending what is left at once");
            let _already_ending = control.command(Command::KillAll).await;
            let mut snapshots = control.snapshots.clone();
            let _ended = snapshots.wait_for(|snapshot| snapshot.is_empty()).await;
        }
    }
    gateway.shutdown(LAST_ANSWERS).await;
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
