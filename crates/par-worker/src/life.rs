//! The life of a worker from its first listener to its last process.
//!
//! ```text
//! listen ──▶ prepare ──▶ load ──▶ serve ──▶ drain ──▶ stop the agent ──▶ end its strays
//!   └───────────┴──────────┴────────┴── failed, ended, or told to end ──────▲
//! ```

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use par_door::Names;
use par_model::control::{EndCause, OwnPorts, Report, WorkerSpec};
use par_model::log::Level;
use par_package::Package;
use par_protocol::frame::{Frame, Kind};
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::agent::channel::Channel;
use crate::agent::errands::{Errands, log_frame};
use crate::agent::liveness::Pulse;
use crate::agent::load::load_of;
use crate::agent::logs::Output;
use crate::agent::outbound::Supervisor;
use crate::agent::process::{self, Agent, Launch, worker_failed};
use crate::agent::sockets::Sockets;
use crate::agent::tunnels;
use crate::egress::{Outlet, Policies};
use crate::ending::{Ending, Told, Word};
use crate::fate::Fate;
use crate::grpc::{Outward, Own};
use crate::http::{About, AboutPackage, Front, Listeners, Server, Ui, probe};
use crate::idle::{Ice, Idle};
use crate::limits::Guard;
use crate::prepare::{Prepared, prepare};
use crate::reports::Reporter;
use crate::serving::Serving;
use crate::sessions::Sessions;
use crate::surroundings::{backend_socket, ground, private_tmp, view};
use crate::variables::variables;

/// For an agent to say goodbye in.
const GOODBYE: Duration = Duration::from_secs(3);
/// For answers that are on their way when the agent ends.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
const LAST_LOGS: Duration = Duration::from_millis(200);
/// For an agent that hangs to write where.
const LAST_STACKS: Duration = Duration::from_secs(2);
/// Between two lines of that.
const PAUSE_IN_STACKS: Duration = Duration::from_millis(200);
const STRAYS: Duration = Duration::from_secs(5);
const LAST_SESSIONS: Duration = Duration::from_secs(6);

/// Serves the agent of `spec` until it ends or is told to, leaves nothing behind, and says why.
pub(crate) async fn live(
    spec: WorkerSpec,
    reporter: Reporter,
    ending: watch::Receiver<Ending>,
    idle: Rc<Idle>,
    egress: Policies,
    own_ports: Rc<Cell<OwnPorts>>,
) -> EndCause {
    let (listeners, sockets) = match listen_everywhere(&spec).await {
        Ok(open) => open,
        Err(cause) => return cause,
    };
    let front = front(&spec, sockets.as_ref(), &idle, own_ports);
    let watching = AbortOnDropHandle::new(tokio::task::spawn_local(Rc::clone(&idle).watch()));
    let server = match Server::start(&front, listeners) {
        Ok(server) => server,
        Err(error) => return worker_failed(&error),
    };
    let outlet = match Outlet::open(&spec, egress, &reporter).await {
        Ok(outlet) => Rc::new(outlet),
        Err(error) => return worker_failed(&error),
    };
    front.has_outlet(Rc::clone(&outlet));
    let life = Life {
        outlet,
        guard: Guard::new(&spec, reporter.clone()),
        spec,
        reporter,
        front,
        sockets,
        fate: Rc::new(Fate::default()),
        pulse: Rc::default(),
    };
    let cause = life.until_the_end(Word::listen(ending), server).await;
    drop(watching);
    life.guard.close().await;
    if let Some(socket) = &life.spec.socket
        && let Err(error) = std::fs::remove_file(socket)
    {
        warn!(%error, "failed to remove our socket");
    }
    cause
}

fn front(
    spec: &WorkerSpec,
    sockets: Option<&Sockets>,
    idle: &Rc<Idle>,
    own_ports: Rc<Cell<OwnPorts>>,
) -> Rc<Front> {
    let about = About {
        agent: spec.agent.clone(),
        package_id: spec.package_id.clone(),
        port: spec.port,
        grpc_port: spec.grpc_port,
        url: format!("{}/agents/{}", spec.supervisor_url, spec.agent),
        own_ports,
        package: RefCell::default(),
    };
    let own = Own::at(sockets.map(Sockets::own));
    let outward = Outward::to(Supervisor::of(spec));
    let known_as = spec.known_as.clone();
    let names = Names::of(spec.host, known_as.hosts, known_as.origins);
    Front::new(about, spec.limits, names, Rc::clone(idle), own, outward)
}

/// The ports first: who has them is who may make the folder of sockets anew.
async fn listen_everywhere(spec: &WorkerSpec) -> Result<(Listeners, Option<Sockets>), EndCause> {
    let failed = |error: io::Error| worker_failed(&error);
    let (http, grpc) = (
        listen(spec, spec.port).await?,
        listen(spec, spec.grpc_port).await?,
    );
    let supervisor = spec.socket.as_ref().map(UnixListener::bind).transpose();
    let supervisor = supervisor.map_err(failed)?;
    let sockets = Sockets::make(spec).map_err(failed)?;
    let agent = sockets.as_ref().map(|sockets| sockets.open_door(spec));
    let agent = agent.transpose();
    let listeners = Listeners {
        http,
        grpc,
        supervisor,
        agent: agent.map_err(failed)?,
    };
    Ok((listeners, sockets))
}

async fn listen(spec: &WorkerSpec, port: u16) -> Result<TcpListener, EndCause> {
    let listener = TcpListener::bind((spec.host, port)).await;
    listener.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => EndCause::PortTaken { port },
        _ => worker_failed(&error),
    })
}

struct Life {
    spec: WorkerSpec,
    reporter: Reporter,
    front: Rc<Front>,
    /// None where the agent can have none.
    sockets: Option<Sockets>,
    fate: Rc<Fate>,
    pulse: Rc<Pulse>,
    guard: Rc<Guard>,
    outlet: Rc<Outlet>,
}

/// Why the agent is not served any longer.
enum Until {
    Told(Told),
    Hung(EndCause),
}

impl Life {
    async fn until_the_end(&self, mut word: Word, server: Server) -> EndCause {
        let started = tokio::select! {
            started = self.start() => started,
            told = word.told() => Err(told.cause),
        };
        let (agent, serving) = match started {
            Ok(started) => started,
            Err(cause) => {
                self.guard.kill();
                self.end_sessions().await;
                self.end_strays(None).await;
                self.guard.has_ended();
                return cause;
            }
        };
        self.serve(agent, serving, word, server).await
    }

    /// Prepares, loads, and publishes the agent.
    async fn start(&self) -> Result<(Agent, Rc<Serving>), EndCause> {
        self.guard.check()?;
        let package = Package::open(&self.spec.package).map_err(|error| worker_failed(&error))?;
        self.introduce(&package);
        let prepared = prepare(&self.spec, &package, &self.reporter).await?;
        if package.manifest.wants_execution() {
            let ground = ground(&self.spec, &prepared, &self.guard, self.reporter.clone());
            let ground = ground.map_err(|error| worker_failed(&error))?;
            let admission = Rc::clone(&self.front.admission);
            self.front.offer(Sessions::start(ground, admission));
        }
        let mut agent = self.launch(&package, prepared).await?;
        self.reporter.state(Report::Prepared);
        let ready = match agent.ready(async |frame| self.early(&frame).await).await {
            Ok(ready) => ready,
            Err(cause) => {
                let cause = self.guard.explain(cause);
                self.bury(agent).await;
                return Err(cause);
            }
        };
        let serving = Serving::new(
            Rc::clone(&agent.channel),
            Rc::clone(&agent.output),
            Rc::clone(&self.front.admission),
            ready,
            &package.manifest,
            Rc::clone(&self.fate),
        );
        let serving = Rc::new(serving);
        self.front.serve(Rc::clone(&serving)).await;
        self.front.idle.freeze_by(Some(Box::new(Ice {
            guard: Rc::clone(&self.guard),
            pulse: Rc::clone(&self.pulse),
        })));
        if let Some(sessions) = self.front.sessions() {
            sessions.warm_up();
        }
        self.reporter.state(Report::Ready {
            agent_pid: agent.program,
        });
        Ok((agent, serving))
    }

    /// What the agent says before it is ready.
    async fn early(&self, frame: &Frame) {
        match frame.kind {
            Kind::Serves => self.front.hear(frame).await,
            _ => log_frame(&self.reporter, frame),
        }
    }

    /// Tells the surfaces what the package is.
    fn introduce(&self, package: &Package) {
        let manifest = &package.manifest;
        let folder = package.ui_folder();
        let meta = json!({
            "name": manifest.name,
            "version": manifest.version,
            "description": manifest.description,
            "author": manifest.author,
            "surfaces": {
                "rest": manifest.rest_entry.is_some() || manifest.asgi_app.is_some(),
                "a2a": manifest.a2a_service.is_some(),
                "ui": folder.is_some(),
            },
        });
        let tag = package.digest.short().to_owned();
        let ui = folder.map(|folder| Rc::new(Ui::new(folder, tag)));
        self.front.about.package.replace(Some(AboutPackage {
            label: package.label(),
            meta,
            ui,
        }));
    }

    async fn launch(&self, package: &Package, prepared: Prepared) -> Result<Agent, EndCause> {
        let (env, warnings) = variables(&self.spec, package, &prepared.programs, &self.outlet);
        for warning in warnings {
            self.reporter.say(Level::Warning, warning);
        }
        let mut view = view(&self.spec, &prepared, self.sockets.as_ref());
        let mut own_tmp = None;
        if self.front.sessions().is_some() {
            view.sockets = backend_socket(self.sockets.as_ref());
            let has_root = self.spec.isolation.profile.has_namespaces();
            own_tmp = (!has_root).then(|| private_tmp(&view));
        }
        let tunnels = tunnels::of(&self.spec, self.outlet.address());
        let launch = Launch {
            tunnels: &tunnels,
            view,
            private_tmp: own_tmp,
            python: &prepared.python,
            harness: &prepared.harness,
            env,
            folder: &package.root,
            guard: &self.guard,
        };
        let sockets = self.sockets.as_ref();
        let output = Output::new().map_err(|error| worker_failed(&error))?;
        let site = prepared.site.clone();
        let load = load_of(&self.spec, package, site, sockets, &output.mark);
        process::start(launch, &load, output, &self.reporter).await
    }

    async fn serve(
        &self,
        mut agent: Agent,
        serving: Rc<Serving>,
        mut word: Word,
        server: Server,
    ) -> EndCause {
        let mut errands = Errands::new(&self.spec, self.reporter.clone());
        let channel = Rc::clone(&agent.channel);
        let until = async {
            tokio::select! {
                told = word.told() => Until::Told(told),
                cause = self.hangs(&channel, &serving) => Until::Hung(cause),
            }
        };
        let until = self.attend(&mut agent, &mut errands, until).await;
        self.front.withdraw().await;
        // What is held still neither hears a goodbye nor dies.
        self.front.idle.freeze_by(None);
        let cause = match until {
            Err(ended) => self.guard.explain(ended),
            Ok(Until::Hung(cause)) => {
                self.ask_where_it_hangs(&agent, &cause).await;
                cause
            }
            Ok(Until::Told(told)) => {
                let patience = word.patience(told.within);
                self.drain(&serving, patience, &mut agent, &mut errands)
                    .await;
                self.say_goodbye(&mut agent, &mut errands).await;
                told.cause
            }
        };
        self.fate.seal(cause.clone());
        self.end_sessions().await;
        self.bury(agent).await;
        server.close(LAST_ANSWERS).await;
        cause
    }

    /// Ends when the agent hangs. It is not asked while it is loaded, nor once it was told to end.
    async fn hangs(&self, channel: &Channel, serving: &Serving) -> EndCause {
        let settings = &self.spec.liveness;
        let path = settings.path.as_deref();
        if path.is_some() && settings.is_on() && !serving.ready.asgi {
            let message = "its liveness path is not asked: it has no HTTP paths of its own";
            self.reporter.say(Level::Warning, message);
        }
        let path = path.filter(|_| serving.ready.asgi);
        let ask = async || match path {
            Some(path) => probe(serving, path).await,
            None => None,
        };
        self.pulse.until_it_hangs(channel, settings, ask).await
    }

    /// Where an agent hangs is in its stacks: its interpreter writes them, even one that runs nothing any more.
    async fn ask_where_it_hangs(&self, agent: &Agent, cause: &EndCause) {
        let message = format!("it hangs: {cause}; it is ended, and its stacks are asked for");
        self.reporter.say(Level::Error, message);
        let before = agent.output.heard();
        agent.ask_for_stacks();
        let written = async {
            let mut last = before;
            loop {
                tokio::time::sleep(PAUSE_IN_STACKS).await;
                let now = agent.output.heard();
                if now == last && now > before {
                    return;
                }
                last = now;
            }
        };
        // One that does not write them is ended without.
        let _written_or_not = timeout(LAST_STACKS, written).await;
    }

    /// Runs the agent's errands until `until` has come, or the agent has ended.
    async fn attend<T>(
        &self,
        agent: &mut Agent,
        errands: &mut Errands,
        until: impl Future<Output = T>,
    ) -> Result<T, EndCause> {
        tokio::pin!(until);
        loop {
            let frame = tokio::select! {
                frame = agent.unasked.recv() => frame,
                status = agent.child.wait() => {
                    let broken = agent.broken_protocol().await;
                    return Err(broken.unwrap_or_else(|| process::cause_of(status)));
                }
                come = &mut until => return Ok(come),
            };
            match frame {
                Some(frame) if frame.kind == Kind::Serves => self.front.hear(&frame).await,
                Some(frame) if frame.kind == Kind::Pong => self.pulse.hear(&frame),
                Some(frame) => errands.run(frame, &agent.channel),
                None => {
                    self.front.withdraw().await;
                    return Err(agent.broken_or_exited().await);
                }
            }
        }
    }

    /// Waits until no call is in flight, as long as there is patience. Those that are may still call other agents.
    async fn drain(
        &self,
        serving: &Serving,
        patience: impl Future<Output = ()>,
        agent: &mut Agent,
        errands: &mut Errands,
    ) {
        let sessions = self.front.sessions();
        let idle = async {
            serving.admission.idle().await;
            if let Some(sessions) = &sessions {
                sessions.idle().await;
            }
        };
        let idle = self.attend(agent, errands, idle);
        tokio::select! {
            _idle_or_ended = idle => {}
            () = patience => {
                let left = serving.admission.in_flight();
                self.reporter.say(Level::Warning, format!("{left} calls were still in flight at the end"));
            }
        }
    }

    async fn say_goodbye(&self, agent: &mut Agent, errands: &mut Errands) {
        agent
            .channel
            .put(0, Kind::Stop, &[])
            .expect("an empty frame is never too large");
        let ended = self.attend(agent, errands, std::future::pending::<Infallible>());
        match timeout(GOODBYE, ended).await {
            Ok(Err(EndCause::Exit { code: 0 })) => {}
            Ok(Err(cause)) => {
                self.reporter
                    .say(Level::Warning, format!("it was asked to stop, and {cause}"));
            }
            Ok(Ok(never)) => match never {},
            Err(_elapsed) => {
                self.reporter.say(
                    Level::Warning,
                    format!("it did not stop within {GOODBYE:?} and was killed"),
                );
            }
        }
    }

    /// Ends what is left of the agent and takes its last words.
    async fn bury(&self, mut agent: Agent) {
        self.guard.kill();
        agent.kill();
        let _known_already = agent.exited().await;
        self.guard.has_ended();
        self.end_strays(Some(agent.pid)).await;
        // Whoever still waits for an answer is told now.
        agent.channel.close();
        agent.pump.abort();
        let last_lines = async {
            for reader in &mut agent.readers {
                let _ended_either_way = reader.await;
            }
        };
        if timeout(LAST_LOGS, last_lines).await.is_err() {
            self.reporter.say(
                Level::Warning,
                "somebody still holds the agent's output open",
            );
        }
    }

    /// Interrupts what runs in sessions, and leaves nothing of them.
    async fn end_sessions(&self) {
        let Some(sessions) = self.front.sessions() else {
            return;
        };
        if timeout(LAST_SESSIONS, sessions.end()).await.is_err() {
            let message = format!("sessions did not end within {LAST_SESSIONS:?} and are killed");
            self.reporter.say(Level::Warning, message);
        }
    }

    async fn end_strays(&self, known: Option<u32>) {
        let left = par_sandbox::end_strays(|| known.into_iter().collect(), STRAYS).await;
        if left > 0 {
            self.reporter.say(
                Level::Error,
                format!("{left} processes of the agent could not be ended"),
            );
        }
    }
}
