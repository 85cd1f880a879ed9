//! The life of a worker from its first listener to its last process.
//!
//! ```text
//! listen ──▶ prepare ──▶ load ──▶ serve ──▶ drain ──▶ stop the agent ──▶ end its strays
//!   └───────────┴──────────┴────────┴── failed, ended, or told to end ──────▲
//! ```

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use par_model::control::{EndCause, Report, WorkerSpec};
use par_model::log::Level;
use par_model::{CallError, headers};
use par_package::Package;
use par_protocol::frame::{Frame, Kind};
use par_protocol::harness;
use rustix::process::Signal;
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use crate::admission::Admission;
use crate::agent::channel::Channel;
use crate::agent::load::load_of;
use crate::agent::outbound::{self, OutboundCall, Supervisor};
use crate::agent::process::{self, Agent, Launch, worker_failed};
use crate::fate::Fate;
use crate::http::{About, AboutPackage, Front, Server, Ui};
use crate::prepare::{Prepared, prepare};
use crate::reports::Reporter;
use crate::serving::Serving;
use crate::variables::variables;

/// Whether, and how, the worker is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    No,
    /// Finish the calls in flight first.
    Drain {
        within: Duration,
    },
    /// Nobody is left to serve for.
    Now,
}

/// For an agent to say goodbye in.
const GOODBYE: Duration = Duration::from_secs(3);
/// For answers that are on their way when the agent ends.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
const LAST_LOGS: Duration = Duration::from_millis(200);
const STRAYS: Duration = Duration::from_secs(5);
/// Drain of a worker that was told to end by a signal.
const SIGNAL_DRAIN: Duration = Duration::from_secs(10);

/// Serves the agent of `spec` until it ends or is told to, leaves nothing behind, and says why.
pub(crate) async fn live(
    spec: WorkerSpec,
    reporter: Reporter,
    ending: watch::Receiver<Ending>,
) -> EndCause {
    let (tcp, unix) = match listeners(&spec).await {
        Ok(listeners) => listeners,
        Err(cause) => return cause,
    };
    let front = Front::new(About {
        agent: spec.agent.clone(),
        package_id: spec.package_id.clone(),
        port: spec.port,
        grpc_port: spec.grpc_port,
        package: RefCell::default(),
    });
    let server = match Server::start(&front, tcp, unix) {
        Ok(server) => server,
        Err(error) => return worker_failed(&error),
    };
    let fate = Rc::new(Fate::default());
    let life = Life {
        spec,
        reporter,
        front,
        fate,
    };
    let cause = life.until_the_end(ending, server).await;
    if let Some(socket) = &life.spec.socket
        && let Err(error) = std::fs::remove_file(socket)
    {
        warn!(%error, "failed to remove our socket");
    }
    cause
}

async fn listeners(spec: &WorkerSpec) -> Result<(TcpListener, Option<UnixListener>), EndCause> {
    let tcp = TcpListener::bind((spec.host, spec.port))
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => EndCause::PortTaken { port: spec.port },
            _ => worker_failed(&error),
        })?;
    let unix = spec.socket.as_ref().map(UnixListener::bind).transpose();
    Ok((tcp, unix.map_err(|error| worker_failed(&error))?))
}

struct Life {
    spec: WorkerSpec,
    reporter: Reporter,
    front: Rc<Front>,
    fate: Rc<Fate>,
}

impl Life {
    async fn until_the_end(&self, mut ending: watch::Receiver<Ending>, server: Server) -> EndCause {
        let started = tokio::select! {
            started = self.start() => started,
            _ = told_to_end(&mut ending) => Err(EndCause::Asked),
        };
        let (agent, serving) = match started {
            Ok(started) => started,
            Err(cause) => {
                self.end_strays(None).await;
                return cause;
            }
        };
        self.serve(agent, serving, ending, server).await
    }

    /// Prepares, loads, and publishes the agent.
    async fn start(&self) -> Result<(Agent, Rc<Serving>), EndCause> {
        let package = Package::open(&self.spec.package).map_err(|error| worker_failed(&error))?;
        self.introduce(&package);
        let prepared = prepare(&self.spec, &package, &self.reporter).await?;
        let mut agent = self.launch(&package, prepared)?;
        self.reporter.state(Report::Prepared);
        let reporter = self.reporter.clone();
        let ready = match agent.ready(|frame| log_frame(&reporter, &frame)).await {
            Ok(ready) => ready,
            Err(cause) => {
                self.bury(agent).await;
                return Err(cause);
            }
        };
        let admission = Admission::new(self.spec.limits);
        let serving = Serving::new(
            Rc::clone(&agent.channel),
            admission,
            ready,
            &package.manifest,
            Rc::clone(&self.fate),
        );
        let serving = Rc::new(serving);
        self.front.serve(Rc::clone(&serving));
        self.reporter.state(Report::Ready {
            agent_pid: agent.pid,
        });
        Ok((agent, serving))
    }

    /// Tells the HTTP surface what the package is.
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

    fn launch(&self, package: &Package, prepared: Prepared) -> Result<Agent, EndCause> {
        let (env, warnings) = variables(&self.spec, package, &prepared.programs);
        for warning in warnings {
            self.reporter.say(Level::Warning, warning);
        }
        let launch = Launch {
            python: &prepared.python,
            harness: &prepared.harness,
            env,
            folder: &package.root,
            data_bytes: self.spec.memory_limit,
        };
        let load = load_of(&self.spec, package, prepared.site);
        process::start(launch, &load, &self.reporter).map_err(|error| worker_failed(&error))
    }

    async fn serve(
        &self,
        mut agent: Agent,
        serving: Rc<Serving>,
        mut ending: watch::Receiver<Ending>,
        server: Server,
    ) -> EndCause {
        let mut outbound = JoinSet::new();
        let supervisor = self.supervisor();
        let told = loop {
            let frame = tokio::select! {
                frame = agent.unasked.recv() => frame,
                status = agent.child.wait() => break Told::Ended(process::cause_of(status)),
                within = told_to_end(&mut ending) => break Told::End(within),
            };
            let Some(frame) = frame else {
                // The channel is closed; the exit says why.
                break Told::Ended(self.last_exit(&mut agent).await);
            };
            self.unasked(frame, &agent.channel, supervisor.as_ref(), &mut outbound);
            while outbound.try_join_next().is_some() {}
        };
        drop(outbound);
        match told {
            Told::Ended(cause) => {
                self.fate.seal(cause.clone());
                self.front.withdraw();
                self.bury(agent).await;
                server.close(LAST_ANSWERS).await;
                cause
            }
            Told::End(within) => {
                self.front.withdraw();
                self.drain(&serving, within, &mut agent).await;
                let goodbye = self.say_goodbye(&mut agent).await;
                self.fate.seal(EndCause::Asked);
                self.bury(agent).await;
                server.close(LAST_ANSWERS).await;
                goodbye
            }
        }
    }

    /// An agent that closed its channel has nothing more to do here.
    async fn last_exit(&self, agent: &mut Agent) -> EndCause {
        match timeout(GOODBYE, agent.exited()).await {
            Ok(cause) => cause,
            Err(_elapsed) => EndCause::Worker {
                reason: "the agent closed its channel and went on".to_owned(),
            },
        }
    }

    fn unasked(
        &self,
        frame: Frame,
        channel: &Rc<Channel>,
        supervisor: Option<&Supervisor>,
        outbound: &mut JoinSet<()>,
    ) {
        if frame.kind != Kind::Outbound {
            return log_frame(&self.reporter, &frame);
        }
        let id = frame.id;
        let refusal = match (OutboundCall::read(frame), supervisor) {
            (None, _) => "the call was not understood".to_owned(),
            (_, None) => "no supervisor is here: this agent runs alone".to_owned(),
            (Some(_), _) if outbound.len() >= self.spec.limits.queue as usize => {
                CallError::Overloaded.to_string()
            }
            (Some(call), Some(supervisor)) => {
                let hops = channel.hops(call.parent()) + 1;
                if hops > headers::MAX_HOPS {
                    CallError::TooManyHops(headers::MAX_HOPS).to_string()
                } else {
                    let work = call.perform(
                        supervisor.clone(),
                        hops,
                        self.spec.limits.deadline,
                        Rc::clone(channel),
                    );
                    outbound.spawn_local(work);
                    return;
                }
            }
        };
        outbound::refuse(channel, id, refusal)
            .expect("a refusal is smaller than the largest frame");
    }

    fn supervisor(&self) -> Option<Supervisor> {
        if let Some(socket) = &self.spec.supervisor_socket {
            return Some(Supervisor::Socket(socket.clone()));
        }
        let address = self.spec.supervisor_url.strip_prefix("http://")?;
        Some(Supervisor::Address(
            address.trim_end_matches('/').to_owned(),
        ))
    }

    /// Waits until no call is in flight, at most `within`.
    async fn drain(&self, serving: &Serving, within: Duration, agent: &mut Agent) {
        let idle = serving.admission.idle();
        let gone = agent.exited();
        let finished = async {
            tokio::select! {
                () = idle => {}
                _cause = gone => {}
            }
        };
        if timeout(within, finished).await.is_err() {
            let left = serving.admission.in_flight();
            self.reporter.say(
                Level::Warning,
                format!("{left} calls were still in flight at the end"),
            );
        }
    }

    async fn say_goodbye(&self, agent: &mut Agent) -> EndCause {
        agent
            .channel
            .put(0, Kind::Stop, &[])
            .expect("an empty frame is never too large");
        match timeout(GOODBYE, agent.exited()).await {
            Ok(EndCause::Exit { code: 0 }) => {}
            Ok(cause) => self
                .reporter
                .say(Level::Warning, format!("it was asked to stop, and {cause}")),
            Err(_elapsed) => {
                self.reporter.say(
                    Level::Warning,
                    format!("it did not stop within {GOODBYE:?} and was killed"),
                );
            }
        }
        EndCause::Asked
    }

    /// Ends what is left of the agent and takes its last words.
    async fn bury(&self, mut agent: Agent) {
        par_sandbox::kill(agent.pid, Signal::KILL);
        let _known_already = agent.exited().await;
        self.end_strays(Some(agent.pid)).await;
        agent.pump.abort();
        let last_lines = async {
            for output in &mut agent.output {
                let _ended_either_way = output.await;
            }
        };
        if timeout(LAST_LOGS, last_lines).await.is_err() {
            self.reporter.say(
                Level::Warning,
                "somebody still holds the agent's output open",
            );
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

enum Told {
    /// The agent ended by itself.
    Ended(EndCause),
    End(Duration),
}

/// Waits for the word to end, from the supervisor or by a signal. Returns how long calls in flight may take.
async fn told_to_end(ending: &mut watch::Receiver<Ending>) -> Duration {
    let by_supervisor = async {
        // A sender that is gone is a supervisor that is gone.
        let told = ending
            .wait_for(|ending| *ending != Ending::No)
            .await
            .map_or(Ending::Now, |told| *told);
        match told {
            Ending::Drain { within } => within,
            Ending::No | Ending::Now => Duration::ZERO,
        }
    };
    let by_signal = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(error) => {
                warn!(%error, "signals are not heard");
                std::future::pending().await
            }
        };
        SIGNAL_DRAIN
    };
    tokio::select! {
        within = by_supervisor => within,
        within = by_signal => within,
    }
}

fn log_frame(reporter: &Reporter, frame: &Frame) {
    if frame.kind != Kind::Log {
        return;
    }
    if let Ok(log) = serde_json::from_slice::<harness::Log>(&frame.body) {
        let level = log.level.parse().unwrap_or(Level::Info);
        reporter.say(level, log.message);
    }
}
