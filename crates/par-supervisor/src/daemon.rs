//! `par up`: puts the rooms together, serves, and ends in order, or gives its place to another process.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use par_gateway::{Config, Gateway, Listeners, Routes};
use par_lifecycle::Command;
use par_model::AgentId;
use par_model::control::CallLimits;
use par_model::event::EventKind;
use par_model::limits::group_name;
use par_package::Store;
use par_sandbox::Groups;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet, LocalSet};
use tower::ServiceExt as _;
use tracing::{error, info, warn};

use crate::api::{Api, Deployments, Figures, Intake, router};
use crate::config::{GRPC_OFFSET, Settings};
use crate::driver::{Driver, Remains};
use crate::effects::Ground;
use crate::events::{EventLog, happening, webhooks};
use crate::handover::{Inheritance, Successor};
use crate::keeper::Keeper;
use crate::listed;
use crate::logs::LogStore;
use crate::message::{Control, Message};
use crate::notify::notify;
use crate::plane;
use crate::publisher::Publisher;
use crate::signals::Signals;
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
    #[error(transparent)]
    Kept(#[from] par_store::StoreError),
    #[error("failed to open the package store")]
    Store(#[source] par_package::PackageError),
    #[error("failed to take over from the supervisor before us")]
    TakeOver(#[source] io::Error),
    #[error("failed to start")]
    Io(#[from] io::Error),
}

const WAITING_MESSAGES: usize = 1024;
/// For connections of callers, when all agents have ended.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// For events to be written, when everything has ended.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// Serves until the first signal, then ends in order; a second signal ends what is left at once.
pub fn run(settings: Settings, announce: impl FnOnce(&Announcement)) -> Result<(), StartError> {
    par_sandbox::adopt_orphans()?;
    let inheritance = Inheritance::of_this_process().map_err(StartError::TakeOver)?;
    let (public, lock, predecessor) = match inheritance {
        Some(inheritance) => {
            let public = inheritance.public.try_clone()?;
            let lock = inheritance.lock.try_clone()?;
            (public, Some(lock), Some(inheritance))
        }
        None => (listen(&settings)?, None, None),
    };
    let state = StateFolder::open(&settings.state, lock)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let daemon = Daemon {
        settings,
        public,
        predecessor,
    };
    let served = LocalSet::new().block_on(&runtime, daemon.serve(state, announce));
    // What is still being deleted keeps nobody waiting: the next life goes on with it.
    runtime.shutdown_background();
    served
}

fn listen(settings: &Settings) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(settings.host, settings.port);
    TcpListener::bind(address).map_err(|source| StartError::Listen { address, source })
}

/// Workers, and the agents in them, reach us under a name that stays the same from supervisor to supervisor.
fn listen_inside(state: &StateFolder) -> io::Result<UnixListener> {
    let socket = state.supervisor_socket();
    let new = socket.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::rename(new, socket)?;
    Ok(listener)
}

struct Daemon {
    settings: Settings,
    public: TcpListener,
    predecessor: Option<Inheritance>,
}

/// What ends a supervisor.
enum End {
    Signal,
    /// Another process serves.
    HandedOver(Successor),
}

impl Daemon {
    async fn serve(
        self,
        state: StateFolder,
        announce: impl FnOnce(&Announcement),
    ) -> Result<(), StartError> {
        // Heard from the first moment on: a signal that comes early is not lost.
        let mut signals = Signals::listen()?;
        // Until the end of the runtime.
        tokio::task::spawn_local(par_sandbox::reap_orphans()?);
        let Self {
            settings,
            public,
            predecessor,
        } = self;
        let announcement = Announcement {
            url: url_of(public.local_addr()?),
            pid: std::process::id(),
            state: state.root().to_owned(),
        };
        let root = state.root().to_owned();
        let store = Arc::new(par_store::Store::open(&root, par_store::Bounds::default())?);
        let first_replica = plane::first_replica(&store);
        let (events, writer) = EventLog::new(Arc::clone(&store))?;
        let events = Arc::new(events);
        // Both until the end of the runtime.
        tokio::spawn(writer.run());
        let (keeper, writing) = Keeper::new(store);
        tokio::task::spawn_local(writing);
        events.note(happening(EventKind::SupervisorStarted));
        let intake = Intake::new(
            Store::open(&state.packages()).map_err(StartError::Store)?,
            state.uploads(),
        );
        let internal = listen_inside(&state)?;
        let sockets = state.supervisor_socket().with_file_name("");
        let (messages, mailbox) = mpsc::channel(WAITING_MESSAGES);
        let (wakes_in, wakes) = mpsc::unbounded_channel();
        let (snapshots_in, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let logs = LogStore::open(&state.logs(), settings.logs);
        let control = Control::new(
            messages.clone(),
            snapshots,
            Arc::clone(&logs),
            keeper.clone(),
        );
        let routes = Routes::default();
        let groups = open_groups(&settings, state.root());
        let ground = ground(
            &settings,
            state,
            &announcement,
            logs,
            messages.clone(),
            Arc::clone(&groups),
        );
        let mut house = House {
            ground: Rc::clone(&ground),
            settings: settings.clone(),
            keeper,
            messages,
            control: control.clone(),
            first_replica,
            events: Arc::clone(&events),
            telling: JoinSet::new(),
        };
        house.tell_webhooks().await?;
        let remains = Remains {
            publisher: Publisher::new(routes.clone(), snapshots_in),
            mailbox,
            wakes,
        };
        let driver = house.drive(remains).await?;
        let mut driving = Some(tokio::task::spawn_local(driver.run()));
        let (upgrades, mut asked) = mpsc::channel(1);
        let api = Arc::new(Api {
            control: control.clone(),
            events: Arc::clone(&events),
            intake: intake.clone(),
            host: settings.host,
            deployments: Deployments::default(),
            figures: Figures::of(routes.clone()),
            sockets,
            upgrades,
            groups: Arc::clone(&groups),
        });
        let gateway = open_gateway(
            Listeners {
                public: public.try_clone()?,
                internal: Some(internal),
            },
            routes,
            api,
            &control,
            settings.call_timeout,
            wakes_in,
        )?;
        announce(&announcement);
        if let Some(predecessor) = predecessor {
            predecessor.serving().map_err(StartError::TakeOver)?;
        }
        notify();
        let starting =
            tokio::task::spawn_local(listed::start_all(settings.agents, control.clone(), intake));
        let end = loop {
            tokio::select! {
                () = signals.next() => break End::Signal,
                Some(upgrade) = asked.recv() => {
                    let driver = driving.take().expect("there is one until it is handed over");
                    match house.hand_over(&upgrade.binary, &public, driver).await {
                        Handed::Over(successor) => {
                            upgrade.tell(Ok(successor.child.id().unwrap_or_default()));
                            break End::HandedOver(successor);
                        }
                        Handed::Back(still_driving, reason) => {
                            driving = Some(still_driving);
                            upgrade.tell(Err(reason));
                        }
                    }
                }
            }
        };
        starting.abort();
        match end {
            End::Signal => {
                end_all(&control, &mut signals, gateway).await;
                if let Some(driving) = driving {
                    driving.abort();
                }
                events.note(happening(EventKind::SupervisorEnded));
                events.written(LAST_EVENTS).await;
                if let Err(reason) = control.keeper.close().await {
                    warn!(%reason, "the state file was not closed in order");
                }
                control.logs.close();
                groups.close();
            }
            End::HandedOver(successor) => {
                let patience = settings.upgrade_drain_timeout;
                info!(
                    ?patience,
                    pid = successor.child.id(),
                    "another process serves: calls that began here are finished"
                );
                tokio::select! {
                    () = gateway.retire(patience) => {}
                    () = signals.next() => warn!("signal: calls that began here are ended"),
                }
            }
        }
        Ok(())
    }
}

/// What a driver needs, of which there may be several one after the other.
struct House {
    ground: Rc<Ground>,
    settings: Settings,
    keeper: Keeper,
    messages: mpsc::Sender<Message>,
    control: Control,
    first_replica: u64,
    events: Arc<EventLog>,
    /// Webhooks; they end with this.
    telling: JoinSet<()>,
}

enum Handed {
    Over(Successor),
    /// Everything goes on as before, and why.
    Back(JoinHandle<Option<Remains>>, String),
}

impl House {
    async fn tell_webhooks(&mut self) -> Result<(), par_store::StoreError> {
        let hooks = self.settings.webhooks.clone();
        self.telling = webhooks::start(hooks, &self.events, self.keeper.store()).await?;
        Ok(())
    }

    async fn drive(&self, remains: Remains) -> Result<Driver, par_store::StoreError> {
        plane::restore(
            Rc::clone(&self.ground),
            fleet_settings(&self.settings, self.first_replica),
            self.keeper.clone(),
            Arc::clone(&self.events),
            self.messages.clone(),
            remains,
        )
        .await
    }

    /// Lets `binary` go on from here.
    async fn hand_over(
        &mut self,
        binary: &Path,
        public: &TcpListener,
        driving: JoinHandle<Option<Remains>>,
    ) -> Handed {
        let mut successor = match Successor::start(binary).await {
            Ok(successor) => successor,
            Err(error) => {
                return Handed::Back(driving, format!("the new process did not start: {error}"));
            }
        };
        if let Some(pid) = successor.child.id() {
            self.ground.children.borrow_mut().push(pid);
        }
        self.control.hand_over().await;
        self.telling.shutdown().await;
        let remains = match driving.await {
            Ok(Some(remains)) => remains,
            // It has ended with everything else.
            Ok(None) | Err(_) => return Handed::Over(successor),
        };
        match self.let_serve(&mut successor, public).await {
            Ok(()) => {
                self.ground.state.hand_over();
                Handed::Over(successor)
            }
            Err(reason) => {
                error!(%reason, "the new process does not serve: we go on");
                successor.end().await;
                Handed::Back(self.go_on(remains).await, reason)
            }
        }
    }

    async fn let_serve(
        &self,
        successor: &mut Successor,
        public: &TcpListener,
    ) -> Result<(), String> {
        self.events.written(LAST_EVENTS).await;
        self.control.logs.written().await;
        self.keeper.close().await?;
        let words = |error: io::Error| format!("the new process does not serve: {error}");
        successor
            .go(public, self.ground.state.lock())
            .await
            .map_err(words)?;
        successor.serving().await.map_err(words)
    }

    /// As before the handing over was tried.
    async fn go_on(&mut self, remains: Remains) -> JoinHandle<Option<Remains>> {
        self.ground.handed_over.set(false);
        match self.reopen(remains).await {
            Ok(driver) => tokio::task::spawn_local(driver.run()),
            Err(reason) => {
                error!(%reason, "the state file cannot be opened again: agents serve on, and nothing can be changed");
                tokio::task::spawn_local(std::future::pending())
            }
        }
    }

    async fn reopen(&mut self, remains: Remains) -> Result<Driver, String> {
        self.keeper.reopen().await?;
        self.first_replica = plane::first_replica(self.keeper.store());
        let words = |error: par_store::StoreError| crate::chain(&error);
        self.tell_webhooks().await.map_err(words)?;
        self.drive(remains).await.map_err(words)
    }
}

/// Somebody wants another binary to go on.
pub(crate) struct Upgrade {
    pub(crate) binary: PathBuf,
    /// Hears the process id of who goes on, or why nobody does.
    pub(crate) answer: oneshot::Sender<Result<u32, String>>,
}

impl Upgrade {
    fn tell(self, outcome: Result<u32, String>) {
        // Whoever asked may have left; it is done all the same.
        let _asker_left = self.answer.send(outcome);
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
        outlive: settings.worker_grace,
        logs,
        events,
        children: std::cell::RefCell::default(),
        handed_over: std::cell::Cell::new(false),
    })
}

fn fleet_settings(settings: &Settings, first_replica: u64) -> par_lifecycle::Settings {
    par_lifecycle::Settings {
        first_replica,
        ports: settings.agent_ports.clone(),
        grpc_offset: GRPC_OFFSET,
        start_timeout: settings.start_timeout,
        drain_timeout: settings.drain_timeout,
        session_timeout: settings.session_timeout,
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
    wakes: mpsc::UnboundedSender<AgentId>,
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
    let wake = Arc::new(move |agent: &AgentId| {
        // The driver is gone only when the supervisor has ended.
        let _driver_is_gone = wakes.send(agent.clone());
    });
    par_gateway::start(listeners, config, routes, control, callers, wake)
}

/// First all agents, then those who call them, then us.
async fn end_all(control: &Control, signals: &mut Signals, gateway: Gateway) {
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
