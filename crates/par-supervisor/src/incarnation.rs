//! One incarnation of a replica: its worker's process, from the start, or from where an earlier supervisor left it, to
//! the end of everything that it started.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use par_lifecycle::Event;
use par_model::control::{EndCause, IsolationSpec, MAX_LINE, Report, Secret, WorkerSpec};
use par_model::log::{Level, LogLine};
use par_sandbox::{Birth, Target};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::adoption::Found;
use crate::catalog::Made;
use crate::chain;
use crate::effects::{Ground, Place};
use crate::limits::{self, ToldLimits};
use crate::logs::line_of_ours;
use crate::message::Message;
use crate::orders::{self, PING_EVERY};
use crate::{ports, secret};

/// For what an ended worker left behind.
const STRAYS: Duration = Duration::from_secs(5);
/// A worker that is silent for so long, though it is asked, is there for nobody.
const HEARING: Duration = Duration::from_secs(2);
const LONGEST_SILENCE: Duration = PING_EVERY.saturating_mul(4);

pub(crate) struct Incarnation {
    ground: Rc<Ground>,
    place: Place,
    made: Arc<Made>,
}

/// A connection to a worker.
pub(crate) struct Link {
    pub(crate) lines: BufReader<OwnedReadHalf>,
    pub(crate) write: OwnedWriteHalf,
}

impl Link {
    pub(crate) fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self {
            lines: BufReader::new(read),
            write,
        }
    }
}

/// A worker's process.
enum Process {
    Ours(Child),
    /// Started by an earlier supervisor: its exit is seen, its exit status is not.
    Stranger,
}

impl Process {
    async fn ended(&mut self, target: &Target) -> io::Result<Option<ExitStatus>> {
        match self {
            Self::Ours(child) => child.wait().await.map(Some),
            Self::Stranger => target.ended().await.map(|()| None),
        }
    }
}

impl Incarnation {
    pub(crate) fn new(ground: Rc<Ground>, place: Place, made: Arc<Made>) -> Self {
        Self {
            ground,
            place,
            made,
        }
    }

    pub(crate) async fn live(self, orders: orders::Given) {
        let cause = self.begin(orders).await;
        self.conclude(cause).await;
    }

    pub(crate) async fn go_on(self, orders: orders::Given, found: Found) {
        let Found {
            pid,
            target,
            link,
            mark,
            ..
        } = found;
        info!(agent = %self.made.agent, replica = %self.place.replica, pid, "worker adopted");
        let cause = self
            .accompany(Process::Stranger, target, link, orders, pid)
            .await;
        if self.ground.handed_over.get() {
            return;
        }
        self.remove_sockets();
        limits::end_group(&self.ground.groups, self.place.replica.0).await;
        // Its orphans went to somebody else.
        par_sandbox::end_marked(&mark, STRAYS).await;
        self.conclude(cause).await;
    }

    async fn conclude(&self, cause: EndCause) {
        if self.ground.handed_over.get() {
            return;
        }
        self.ground.egress.over(self.place.replica);
        info!(agent = %self.made.agent, replica = %self.place.replica, %cause, "worker ended");
        self.tell(Event::Exited(self.place.replica, cause)).await;
    }

    async fn begin(&self, orders: orders::Given) -> EndCause {
        if let Some(reason) = &self.made.unusable {
            return EndCause::LoadFailed {
                reason: reason.clone(),
                traceback: None,
            };
        }
        let Place {
            port, grpc_port, ..
        } = self.place;
        if !ports::are_free(self.ground.host, [port, grpc_port]) {
            return EndCause::PortTaken { port };
        }
        let ground = &self.ground;
        let isolation = match ground.walls.of(&self.made.agent, &ground.groups).await {
            Ok(isolation) => isolation,
            Err(reason) => return EndCause::NotIsolated { reason },
        };
        let started = async {
            let secret = secret::new()?;
            let (child, link) = self.start(&secret, isolation).await?;
            let target = Target::of(&child)?;
            io::Result::Ok((secret, child, target, link))
        };
        let (secret, child, target, link) = match started.await {
            Ok(started) => started,
            Err(error) => return failed(&error),
        };
        let pid = child.id().unwrap_or_default();
        info!(agent = %self.made.agent, replica = %self.place.replica, pid, port, "worker started");
        self.say_born(pid, secret).await;
        let process = Process::Ours(child);
        let cause = self.accompany(process, target, link, orders, pid).await;
        self.forget_child(pid);
        if !self.ground.handed_over.get() {
            self.remove_sockets();
            limits::end_group(&self.ground.groups, self.place.replica.0).await;
            self.end_strays().await;
        }
        cause
    }

    fn forget_child(&self, pid: u32) {
        let mut children = self.ground.children.borrow_mut();
        children.retain(|child| *child != pid);
    }

    async fn say_born(&self, pid: u32, secret: Secret) {
        let replica = self.place.replica;
        self.tell(Event::Spawned { replica, pid }).await;
        if let Some(birth) = Birth::of(pid) {
            self.send(Message::Born {
                replica,
                pid,
                birth,
                secret,
            })
            .await;
        }
    }

    async fn end_strays(&self) {
        let known = || self.ground.children.borrow().clone();
        let left = par_sandbox::end_strays(known, STRAYS).await;
        if left > 0 {
            warn!(agent = %self.made.agent, left, "processes of an ended worker could not be ended");
        }
    }

    fn remove_sockets(&self) {
        let replica = self.place.replica;
        if let Err(error) = self.ground.state.remove_leftovers(replica) {
            warn!(%replica, %error, "failed to remove the sockets of a worker");
        }
    }

    async fn start(&self, secret: &Secret, isolation: IsolationSpec) -> io::Result<(Child, Link)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = par_sandbox::spawn_worker(OwnedFd::from(theirs))?;
        // Before anything is waited for: who looks for strays meanwhile knows it already.
        self.ground.children.borrow_mut().extend(child.id());
        let mut link = Link::new(UnixStream::from_std(ours)?);
        // A worker that ends at once has a cause of its own.
        if let Err(error) = orders::write_line(&mut link.write, &self.spec(secret, isolation)).await
        {
            debug!(%error, "a worker did not hear what to be");
        }
        Ok((child, link))
    }

    /// Listens and passes orders on until the process has ended and all that it said was heard.
    async fn accompany(
        &self,
        mut process: Process,
        worker: Target,
        link: Link,
        orders: orders::Given,
        pid: u32,
    ) -> EndCause {
        let Link { lines, mut write } = link;
        let mut said = None;
        let heard_at = Cell::new(Instant::now());
        let heard = self.listen(lines, &mut said, &heard_at);
        let ordered = async {
            let told = orders::tell(orders.clone(), &mut write);
            let killed = orders::kill_when_ordered(orders.clone(), pid, &worker);
            let watched = self.watch(&heard_at);
            if let (Err(error), (), ()) = tokio::join!(told, killed, watched) {
                // It has ended, or will be killed.
                debug!(agent = %self.made.agent, %error, "a worker did not take its orders");
            }
            std::future::pending::<Infallible>().await
        };
        let status = {
            let ended = async { tokio::join!(process.ended(&worker), heard).0 };
            tokio::select! {
                status = ended => status,
                never = ordered => match never {},
            }
        };
        said.unwrap_or_else(|| cause_of(status))
    }

    /// Says when the worker has been silent for too long.
    async fn watch(&self, heard_at: &Cell<Instant>) {
        loop {
            let heard = heard_at.get();
            sleep_until(heard + LONGEST_SILENCE).await;
            // We may have been held up ourselves: what it said meanwhile is heard first.
            sleep(HEARING).await;
            if heard_at.get() == heard {
                break;
            }
        }
        let replica = self.place.replica;
        warn!(agent = %self.made.agent, %replica, "a worker does not answer");
        let after = LONGEST_SILENCE;
        self.tell(Event::Silent { replica, after }).await;
    }

    /// Hears a worker until the end of its words.
    async fn listen(
        &self,
        mut lines: BufReader<OwnedReadHalf>,
        said: &mut Option<EndCause>,
        heard_at: &Cell<Instant>,
    ) {
        let mut line = vec![];
        loop {
            line.clear();
            match (&mut lines)
                .take(MAX_LINE as u64 * 2)
                .read_until(b'\n', &mut line)
                .await
            {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            heard_at.set(Instant::now());
            match serde_json::from_slice(&line) {
                Ok(Report::Ending { cause }) => *said = Some(cause),
                Ok(report) => self.report(report).await,
                Err(error) => {
                    warn!(agent = %self.made.agent, %error, "a worker said what is not understood")
                }
            }
        }
    }

    async fn report(&self, report: Report) {
        let replica = self.place.replica;
        match report {
            Report::Progress { message } => self.send(Message::Progress { replica, message }).await,
            Report::Prepared => self.tell(Event::Prepared(replica)).await,
            Report::Ready { agent_pid } => {
                self.send(Message::AgentPid {
                    replica,
                    pid: agent_pid,
                })
                .await;
                self.tell(Event::Ready(replica)).await;
            }
            Report::Quiet => self.tell(Event::Quiet(replica)).await,
            Report::Busy => self.tell(Event::Busy(replica)).await,
            Report::Sessions { any } => self.tell(Event::Sessions { replica, any }).await,
            Report::Limits { limits } => {
                let memory = self.ground.wanted.wanted(&self.made.options).memory;
                limits::log(&self.made.agent, replica, &limits);
                let told = ToldLimits::of(limits, memory, &self.ground.groups, replica.0);
                self.send(Message::Limits { replica, told }).await;
            }
            Report::Isolation { isolation } => {
                self.send(Message::Isolation { replica, isolation }).await;
            }
            Report::Log { line } => self.log(line),
            Report::LogsDropped { lines } => {
                let message =
                    format!("{lines} lines were dropped: they came faster than they can be kept");
                self.log(line_of_ours(Level::Warning, message));
            }
            Report::Egress { figures } => {
                self.ground.egress.hear(&self.made.agent, replica, figures);
            }
            Report::Pong | Report::Resumed(_) | Report::Ending { .. } => {}
        }
    }

    fn log(&self, line: LogLine) {
        let replica = Some(self.place.replica);
        let line = LogLine { replica, ..line };
        self.ground.logs.add(&self.made.agent, line);
    }

    async fn tell(&self, event: Event) {
        self.send(Message::Event(event)).await;
    }

    async fn send(&self, message: Message) {
        // The driver is gone only when the supervisor has ended.
        let _driver_is_gone = self.ground.events.send(message).await;
    }

    fn spec(&self, secret: &Secret, isolation: IsolationSpec) -> WorkerSpec {
        let (ground, made) = (&self.ground, &self.made);
        let replica = self.place.replica;
        let allowances = Arc::clone(&ground.allowances.borrow());
        let mut env = made.variables();
        env.extend(allowances.variables(&made.agent));
        WorkerSpec {
            agent: made.agent.clone(),
            replica,
            package_id: made.package_id.clone(),
            package: made.package.clone(),
            env,
            egress: allowances.egress(&made.agent),
            host: ground.host,
            port: self.place.port,
            grpc_port: self.place.grpc_port,
            socket: Some(ground.state.worker_socket(replica)),
            control: Some(ground.state.control_socket(replica)),
            secret: secret.clone(),
            mark: secret::mark(secret),
            outlive: ground.outlive,
            restarts: self.place.restarts,
            idle_timeout: made.idle_timeout(),
            supervisor_socket: Some(ground.state.supervisor_socket()),
            supervisor_url: ground.url.clone(),
            folders: ground.state.folders_of(&made.agent, replica),
            python: ground.python.clone(),
            grouping: ground.groups.make(replica.0),
            wanted: ground.wanted.wanted(&made.options),
            limits_required: ground.wanted.required(&made.options),
            isolation,
            limits: ground.limits,
            sessions: self.ground.sessions,
            known_as: self.ground.known_as.clone(),
            install: self.ground.install.clone(),
            liveness: made.liveness(),
            own_ports: ground.own_ports,
        }
    }
}

/// How a worker ended that did not say it.
fn cause_of(status: io::Result<Option<ExitStatus>>) -> EndCause {
    match status {
        Ok(Some(status)) => match par_sandbox::end_cause(status) {
            EndCause::Exit { code } => EndCause::Worker {
                reason: format!("exited with code {code}"),
            },
            cause => cause,
        },
        Ok(None) => EndCause::Worker {
            reason: "ended without a word".to_owned(),
        },
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> EndCause {
    EndCause::Worker {
        reason: chain(error),
    }
}
