//! `par up`: puts the rooms together, serves, and ends in order, or gives its place to another process.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use par_access::Access;
use par_gateway::{Config, Gate, Gateway, Listeners, Routes};
use par_lifecycle::Command;
use par_model::AgentId;
use par_model::control::{CallLimits, OwnPorts};
use par_model::event::EventKind;
use par_model::limits::group_name;
use par_package::Store;
use par_sandbox::Groups;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, LocalSet};
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;
use tracing::{error, info, warn};

use crate::access::{self, AuditLog, Gatekeeper, KeyKeeper, OpenToOthers, OperatorFile};
use crate::allowances::Allowances;
use crate::api::{Api, Deployments, Figures, Intake, router};
use crate::config::{GRPC_OFFSET, Settings};
use crate::driver::Remains;
use crate::effects::Ground;
use crate::events::{EventLog, happening};
use crate::handover::{Inheritance, Successor};
use crate::house::{Handed, House, Upgrade};
use crate::keeper::Keeper;
use crate::listed;
use crate::logs::LogStore;
use crate::message::Control;
use crate::notify::notify;
use crate::publisher::Publisher;
use crate::signals::Signals;
use crate::snapshot::Snapshot;
use crate::state::{StateError, StateFolder};
use crate::tls::{Renewal, TlsError};
use crate::walls::Walls;

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
    #[error(transparent)]
    Open(#[from] OpenToOthers),
    #[error("failed to open the package store")]
    Store(#[source] par_package::PackageError),
    #[error("failed to serve over TLS")]
    Tls(#[from] TlsError),
    #[error("failed to take over from the supervisor before us")]
    TakeOver(#[source] io::Error),
    #[error(
        "the supervisor failed, and its log says where; agents go on for a while: start it again"
    )]
    Lost,
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
    par_sandbox::leave_no_core_file()?;
    par_sandbox::adopt_orphans()?;
    let inheritance = Inheritance::of_this_process().map_err(StartError::TakeOver)?;
    let (public, lock, predecessor) = match inheritance {
        Some(inheritance) => {
            let public = inheritance.public.try_clone()?;
            let lock = inheritance.lock.try_clone()?;
            (Some(public), Some(lock), Some(inheritance))
        }
        None => (None, None, None),
    };
    let state = StateFolder::open(&settings.state, lock)?;
    let public = match public {
        Some(public) => public,
        None => {
            check_open(&settings, state.root())?;
            listen(&settings)?
        }
    };
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

/// Before anybody can come in: on an address that others reach, somebody has to be told from anybody.
fn check_open(settings: &Settings, state: &Path) -> Result<(), StartError> {
    if settings.host.is_loopback() {
        return Ok(());
    }
    let has_token = access::has_token(state)?;
    access::check_open(settings.host, &settings.access, has_token, state.to_owned())?;
    Ok(())
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
    HandedOver(Box<Successor>),
    /// Nobody decides any more what to do.
    Lost,
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
        let announcement = Announcement {
            url: url_of(self.public.local_addr()?, self.settings.tls.is_some()),
            pid: std::process::id(),
            state: state.root().to_owned(),
        };
        let mut serving = Serving::open(self.settings, self.public, state, &announcement).await?;
        if let Some(predecessor) = self.predecessor {
            // That one may have been killed meanwhile: all that it had is here.
            if let Err(error) = predecessor.serving() {
                warn!(%error, "the supervisor before us has gone early");
            }
        }
        serving.house.ground.state.take_over();
        // Not before: until now another process may have had the way in.
        serving.operator.write()?;
        // Who hears of us finds the way in.
        announce(&announcement);
        notify();
        match serving.until_the_end(&mut signals).await {
            End::Signal => serving.end(&mut signals).await,
            End::HandedOver(successor) => serving.retire(&successor, &mut signals).await,
            End::Lost => {
                // Workers go on for a while, and whoever starts us again finds them.
                serving.house.ground.state.hand_over();
                return Err(StartError::Lost);
            }
        }
        Ok(())
    }
}

/// A supervisor that serves.
struct Serving {
    house: House,
    intake: Intake,
    operator: OperatorFile,
    audit: Arc<AuditLog>,
    public: TcpListener,
    gateway: Gateway,
    /// None while, and after, another process is to go on.
    driving: Option<JoinHandle<Option<Remains>>>,
    /// Who wants another process to go on.
    upgrades: mpsc::Receiver<Upgrade>,
}

impl Serving {
    async fn open(
        settings: Settings,
        public: TcpListener,
        state: StateFolder,
        announcement: &Announcement,
    ) -> Result<Self, StartError> {
        // First: a file that cannot be used ends nothing that runs.
        let renewal = settings.tls.clone().map(Renewal::begin).transpose()?;
        let bounds = par_store::Bounds::default();
        let store = par_store::Store::open_with(state.root(), bounds, &settings.secret_key)?;
        let store = Arc::new(store);
        let audit = AuditLog::open(state.audit())?;
        let (gate, keys) = open_gate(&settings, &audit);
        let port = public.local_addr()?.port();
        let (operator, token) = OperatorFile::new(state.root(), port)?;
        let gatekeeper = Gatekeeper::new(gate.clone(), Arc::clone(&store), token).await?;
        if let (Some(oidc), Some(keys)) = (settings.access.oidc.clone(), keys) {
            // Until the end of the runtime.
            tokio::spawn(keys.run(oidc, gate.clone()));
        }
        let (events, writer) = EventLog::new(Arc::clone(&store))?;
        let (keeper, writing) = Keeper::new(store);
        // Both until the end of the runtime.
        tokio::spawn(writer.run());
        tokio::task::spawn_local(writing);
        events.note(happening(EventKind::SupervisorStarted));
        let packages = Store::open(&state.packages()).map_err(StartError::Store)?;
        let intake = Intake::new(packages, state.uploads());
        let sockets = state.supervisor_socket().with_file_name("");
        let (messages, mailbox) = mpsc::channel(WAITING_MESSAGES);
        let (wakes_in, wakes) = mpsc::unbounded_channel();
        let (snapshots_in, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let logs = LogStore::open(&state.logs(), settings.logs);
        let own_ports = own_ports(&settings, public.local_addr()?.port());
        let allowances = Allowances::new(BTreeMap::new(), own_ports);
        let (allowances_in, allowances) = watch::channel(Arc::new(allowances));
        let control = Control::new(messages, snapshots, logs, keeper, allowances);
        let routes = Routes::default();
        let groups = open_groups(&settings, state.root());
        let ground = ground(
            &settings,
            state,
            announcement,
            &control,
            groups,
            allowances_in,
        );
        let config = settings.door.config(
            settings.host,
            Config {
                call_timeout: settings.call_timeout,
                audit_calls: settings.access.audit_calls,
                ..Config::default()
            },
        );
        let mut house = House::new(Rc::new(ground), settings, control, Arc::new(events));
        house.tell_webhooks().await?;
        let driver = house
            .drive(Remains {
                publisher: Publisher::new(routes.clone(), gate.clone(), snapshots_in),
                mailbox,
                wakes,
            })
            .await
            .map_err(|(error, _)| error)?;
        // Late: until here another process may have the name.
        let internal = listen_inside(&house.ground.state)?;
        let (upgrades_in, upgrades) = mpsc::channel(1);
        let api = Api {
            control: house.control.clone(),
            events: Arc::clone(&house.events),
            intake: intake.clone(),
            host: house.settings.host,
            tls: renewal.as_ref().map(Renewal::status),
            gatekeeper,
            audit: Arc::clone(&audit),
            deployments: Deployments::default(),
            figures: Figures::of(routes.clone()),
            sockets,
            upgrades: upgrades_in,
            groups: Arc::clone(&house.ground.groups),
        };
        let listeners = Listeners {
            public: public.try_clone()?,
            tls: renewal.as_ref().map(Renewal::tls),
            internal: Some(internal),
        };
        // Until the end of the runtime.
        renewal.map(|renewal| tokio::task::spawn_local(renewal.run()));
        let control = &house.control;
        let gateway = open_gateway(listeners, config, routes, gate, api, control, wakes_in)?;
        Ok(Self {
            driving: Some(tokio::task::spawn_local(driver.run())),
            house,
            intake,
            operator,
            audit,
            public,
            gateway,
            upgrades,
        })
    }

    async fn until_the_end(&mut self, signals: &mut Signals) -> End {
        let (agents, control) = (&self.house.settings.agents, &self.house.control);
        let listed = listed::start_all(agents.clone(), control.clone(), self.intake.clone());
        let _starting = AbortOnDropHandle::new(tokio::task::spawn_local(listed));
        loop {
            tokio::select! {
                () = signals.next() => return End::Signal,
                () = lost(&mut self.driving) => return End::Lost,
                Some(upgrade) = self.upgrades.recv() => {
                    if let Some(end) = self.hand_over(upgrade, signals).await {
                        return end;
                    }
                }
            }
        }
    }

    /// `None`: it did not work, and everything goes on.
    async fn hand_over(&mut self, upgrade: Upgrade, signals: &mut Signals) -> Option<End> {
        let words = |error: io::Error| format!("the new process did not start: {error}");
        let mut successor = match self.house.begin_with(&upgrade.binary) {
            Ok(successor) => successor,
            Err(error) => {
                upgrade.tell(Err(words(error)));
                return None;
            }
        };
        // One that hangs keeps nobody from ending us.
        let (here, end) = tokio::select! {
            here = successor.here() => (here.map_err(words), None),
            () = signals.next() => (Err("the supervisor ends".to_owned()), Some(End::Signal)),
        };
        let driver = match here {
            Ok(()) => self.driving.take()?,
            Err(reason) => {
                self.house.do_without(successor).await;
                upgrade.tell(Err(reason));
                return end;
            }
        };
        let (handed, told) = {
            let mut handing = pin!(self.house.hand_over(successor, &self.public, driver));
            let mut told = false;
            // Half done it cannot be left: whoever has the agents then is told.
            let handed = loop {
                tokio::select! {
                    handed = &mut handing => break handed,
                    () = signals.next() => told = true,
                }
            };
            (handed, told)
        };
        match handed {
            Handed::Over(successor) => {
                self.house.control.elsewhere.cancel();
                upgrade.tell(Ok(successor.child.id().unwrap_or_default()));
                if told {
                    successor.terminate();
                }
                Some(End::HandedOver(successor))
            }
            Handed::Back(driving, reason) => {
                self.driving = Some(driving);
                upgrade.tell(Err(reason));
                told.then_some(End::Signal)
            }
            Handed::Lost => {
                upgrade.tell(Err("the supervisor has failed, and ends".to_owned()));
                Some(End::Lost)
            }
        }
    }

    /// First all agents, then those who call them, then us.
    async fn end(self, signals: &mut Signals) {
        let House {
            control,
            events,
            ground,
            ..
        } = self.house;
        info!("ending: calls in flight may finish, a second signal ends them");
        end_agents(&control, signals).await;
        self.gateway.shutdown(LAST_ANSWERS).await;
        if let Some(driving) = self.driving {
            driving.abort();
        }
        events.note(happening(EventKind::SupervisorEnded));
        events.written(LAST_EVENTS).await;
        if let Err(reason) = control.keeper.close().await {
            warn!(%reason, "the state file was not closed in order");
        }
        control.logs.close();
        self.operator.remove();
        self.audit.close();
        ground.groups.close();
    }

    /// Finishes what was begun here.
    async fn retire(self, successor: &Successor, signals: &mut Signals) {
        // Whoever asks for another upgrade here is told at once.
        drop(self.upgrades);
        let patience = self.house.settings.upgrade_drain_timeout;
        let pid = successor.child.id();
        info!(
            ?patience,
            pid, "another process serves: calls that began here are finished"
        );
        tokio::select! {
            () = self.gateway.retire(patience) => {}
            () = signals.next() => warn!("signal: calls that began here are ended"),
        }
        self.audit.close();
    }
}

/// Ends when the driver has ended, which it does only when it failed.
async fn lost(driving: &mut Option<JoinHandle<Option<Remains>>>) {
    match driving {
        Some(driver) => drop(driver.await),
        None => std::future::pending().await,
    }
    error!("nobody decides any more what to do");
    *driving = None;
}

/// Where no agent is let, whatever is granted: the supervisor, and all workers.
fn own_ports(settings: &Settings, public: u16) -> Vec<(u16, u16)> {
    let (first, last) = settings.agent_ports.clone().into_inner();
    let grpc = |port: u16| port.saturating_add(GRPC_OFFSET);
    vec![(public, public), (first, last), (grpc(first), grpc(last))]
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

/// Who may pass, and whoever looks for the keys of the issuer, if there is one.
fn open_gate(settings: &Settings, audit: &Arc<AuditLog>) -> (Gate, Option<KeyKeeper>) {
    let keys = settings.access.oidc.as_ref().map(|_| KeyKeeper::new());
    let access = Access {
        policy: Arc::new(settings.access.policy(settings.host)),
        issuer: settings
            .access
            .oidc
            .as_ref()
            .map(|oidc| Arc::new(oidc.issuer.clone())),
        ..Access::default()
    };
    let (audit, asked) = (Arc::clone(audit), keys.clone());
    let told = move |decided| audit.note(decided);
    let want_keys = move || asked.as_ref().is_some_and(KeyKeeper::ask);
    (Gate::new(access, told, want_keys), keys)
}

/// Where agents have their own ports: only this machine reaches them. Whoever comes from elsewhere comes through the
/// supervisor, who can tell callers apart.
fn doors_of_agents(settings: &Settings) -> (IpAddr, OwnPorts) {
    let host = match settings.host {
        host if host.is_loopback() => host,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    match settings.access.is_anonymous(settings.host) {
        true => (host, OwnPorts::Open),
        false => (host, OwnPorts::Closed),
    }
}

fn url_of(local: SocketAddr, is_secure: bool) -> String {
    let scheme = if is_secure { "https" } else { "http" };
    let ip = match local.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, local.port()))
}

fn ground(
    settings: &Settings,
    state: StateFolder,
    announcement: &Announcement,
    control: &Control,
    groups: Arc<Groups>,
    allowances: watch::Sender<Arc<Allowances>>,
) -> Ground {
    let (host, own_ports) = doors_of_agents(settings);
    Ground {
        walls: Walls::new(settings.isolation, state.root(), &state.agents()),
        state,
        host,
        own_ports,
        url: announcement.url.clone(),
        python: settings.python.clone(),
        limits: CallLimits {
            deadline: settings.call_timeout,
            body: settings.body_limit,
            ..CallLimits::default()
        },
        sessions: settings.execution,
        known_as: settings.door.known_as(),
        install: settings.install.clone(),
        wanted: settings.limits.clone(),
        groups,
        outlive: settings.worker_grace,
        logs: Arc::clone(&control.logs),
        events: control.messages.clone(),
        children: std::cell::RefCell::default(),
        allowances,
        egress: Arc::clone(&control.egress),
        handed_over: std::cell::Cell::new(false),
    }
}

fn open_gateway(
    listeners: Listeners,
    config: Config,
    routes: Routes,
    gate: Gate,
    api: Api,
    control: &Control,
    wakes: mpsc::UnboundedSender<AgentId>,
) -> io::Result<Gateway> {
    let snapshots = control.snapshots.clone();
    let callers = Arc::new(move |pid: u32| snapshots.borrow().workers.get(&pid).cloned());
    let router = router(Arc::new(api));
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
    let wake = Arc::new(move |agent: &AgentId| {
        // The driver is gone only when the supervisor has ended.
        let _driver_is_gone = wakes.send(agent.clone());
    });
    par_gateway::start(listeners, config, routes, gate, control, callers, wake)
}

/// Waits for all of them; a second signal does not.
async fn end_agents(control: &Control, signals: &mut Signals) {
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
}
