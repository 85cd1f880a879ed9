//! Performs: starts workers, listens to them, ends them. Every incarnation has one task that owns its process and
//! ends in one event.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use par_lifecycle::Event;
use par_model::control::{EndCause, MAX_LINE, Report, WorkerSpec};
use par_model::log::{Level, LogLine, Stream};
use par_model::{AgentId, ReplicaId};
use par_sandbox::Target;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::catalog::Made;
use crate::chain;
use crate::gone::Gone;
use crate::limits::{self, ToldLimits};
use crate::logs::LogStore;
use crate::message::Message;
use crate::orders::{self, Order, Orders};
use crate::ports;
use crate::state::StateFolder;

/// For what an ended worker left behind.
const STRAYS: Duration = Duration::from_secs(5);

pub(crate) struct Effects {
    ground: Rc<Ground>,
    incarnations: HashMap<ReplicaId, watch::Sender<Order>>,
    tasks: JoinSet<()>,
}

/// What all incarnations stand on.
pub(crate) struct Ground {
    pub(crate) state: StateFolder,
    pub(crate) host: std::net::IpAddr,
    pub(crate) url: String,
    pub(crate) python: Option<std::path::PathBuf>,
    pub(crate) limits: par_model::control::CallLimits,
    pub(crate) sessions: par_model::SessionLimits,
    pub(crate) wanted: limits::LimitDefaults,
    pub(crate) groups: Arc<par_sandbox::Groups>,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) events: mpsc::Sender<Message>,
    /// Process ids of workers that live: everything else below us is a stray.
    pub(crate) workers: RefCell<Vec<u32>>,
}

impl Effects {
    pub(crate) fn new(ground: Rc<Ground>) -> Self {
        Self {
            ground,
            incarnations: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    pub(crate) fn socket_of(&self, replica: ReplicaId) -> std::path::PathBuf {
        self.ground.state.worker_socket(replica)
    }

    pub(crate) fn spawn(&mut self, replica: ReplicaId, made: Arc<Made>, port: u16, grpc_port: u16) {
        while self.tasks.try_join_next().is_some() {}
        self.incarnations.retain(|_, orders| !orders.is_closed());
        let (orders_in, orders) = orders::channel();
        self.incarnations.insert(replica, orders_in);
        let incarnation = Incarnation {
            ground: Rc::clone(&self.ground),
            replica,
            made,
            port,
            grpc_port,
        };
        self.tasks.spawn_local(incarnation.live(orders));
    }

    pub(crate) fn drain(&self, replica: ReplicaId, within: Duration) {
        self.order(replica, Order::Drain(within));
    }

    /// Like a drain that waits for nobody. One that drains already does so within its own time.
    pub(crate) fn terminate(&self, replica: ReplicaId) {
        self.order(replica, Order::Drain(Duration::ZERO));
    }

    pub(crate) fn kill(&self, replica: ReplicaId) {
        self.order(replica, Order::Kill);
    }

    fn order(&self, replica: ReplicaId, order: Order) {
        if let Some(incarnation) = self.incarnations.get(&replica) {
            incarnation.send_replace(order);
        }
    }

    /// Whoever reads an agent's log finds there what became of it.
    pub(crate) fn log(&self, agent: &AgentId, level: Level, message: String) {
        let line = line_of_ours(level, message);
        self.ground.logs.add(agent, line);
    }

    pub(crate) fn forget(&mut self, agent: &AgentId) {
        match self.ground.state.forget(agent) {
            Ok(gone) => self.delete(gone),
            Err(error) => warn!(%agent, %error, "failed to remove the folder of an agent"),
        }
        self.ground.logs.clear(Some(agent));
    }

    /// Goes on with what an earlier life did not get to delete.
    pub(crate) fn sweep(&mut self) {
        match self.ground.state.forgotten() {
            Ok(left) => self.delete(left),
            Err(error) => warn!(%error, "failed to look for folders that are to be deleted"),
        }
    }

    /// In the background. What is not deleted when we end is swept by the next life.
    fn delete(&mut self, gone: impl IntoIterator<Item = Gone>) {
        for gone in gone {
            self.tasks.spawn_blocking(move || {
                if let Err(error) = gone.delete() {
                    warn!(%error, "failed to delete the folder of a removed agent");
                }
            });
        }
    }
}

struct Incarnation {
    ground: Rc<Ground>,
    replica: ReplicaId,
    made: Arc<Made>,
    port: u16,
    grpc_port: u16,
}

type Lines = BufReader<OwnedReadHalf>;

impl Incarnation {
    async fn live(self, orders: Orders) {
        let cause = self.until_the_end(orders).await;
        info!(agent = %self.made.agent, replica = %self.replica, %cause, "worker ended");
        self.tell(Event::Exited(self.replica, cause)).await;
    }

    async fn until_the_end(&self, orders: Orders) -> EndCause {
        if !ports::are_free(self.ground.host, [self.port, self.grpc_port]) {
            return EndCause::PortTaken { port: self.port };
        }
        let (mut child, control) = match self.start() {
            Ok(started) => started,
            Err(error) => return failed(&error),
        };
        let pid = child.id().unwrap_or_default();
        self.ground.workers.borrow_mut().push(pid);
        info!(agent = %self.made.agent, replica = %self.replica, pid, port = self.port, "worker started");
        self.tell(Event::Spawned {
            replica: self.replica,
            pid,
        })
        .await;
        let cause = self.accompany(&mut child, control, orders, pid).await;
        self.ground
            .workers
            .borrow_mut()
            .retain(|worker| *worker != pid);
        self.remove_sockets();
        limits::end_group(&self.ground.groups, self.replica.0).await;
        let known = || self.ground.workers.borrow().clone();
        let left = par_sandbox::end_strays(known, STRAYS).await;
        if left > 0 {
            warn!(agent = %self.made.agent, left, "processes of an ended worker could not be ended");
        }
        cause
    }

    fn remove_sockets(&self) {
        if let Err(error) = self.ground.state.remove_sockets(self.replica) {
            warn!(replica = %self.replica, %error, "failed to remove the sockets of a worker");
        }
    }

    fn start(&self) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = par_sandbox::spawn_worker(OwnedFd::from(theirs))?;
        Ok((child, UnixStream::from_std(ours)?))
    }

    /// Listens and passes orders on until the process has ended and all that it said was heard.
    async fn accompany(
        &self,
        child: &mut Child,
        control: UnixStream,
        orders: Orders,
        pid: u32,
    ) -> EndCause {
        let worker = match Target::of(child) {
            Ok(worker) => worker,
            Err(error) => return failed(&error),
        };
        let (read, mut write) = control.into_split();
        let mut said = None;
        let heard = self.listen(BufReader::new(read), &mut said);
        let spec = self.spec();
        let ordered = async {
            let told = orders::tell(orders.clone(), &mut write, &spec);
            let killed = orders::kill_when_ordered(orders.clone(), pid, &worker);
            if let (Err(error), ()) = tokio::join!(told, killed) {
                // It has ended, or will be killed.
                debug!(agent = %self.made.agent, %error, "a worker did not take its orders");
            }
            std::future::pending::<Infallible>().await
        };
        let status = {
            let ended = async { tokio::join!(child.wait(), heard).0 };
            tokio::select! {
                status = ended => status,
                never = ordered => match never {},
            }
        };
        said.unwrap_or_else(|| match status {
            Ok(status) => match par_sandbox::end_cause(status) {
                EndCause::Exit { code } => EndCause::Worker {
                    reason: format!("exited with code {code}"),
                },
                cause => cause,
            },
            Err(error) => failed(&error),
        })
    }

    /// Hears a worker until the end of its words.
    async fn listen(&self, mut lines: Lines, said: &mut Option<EndCause>) {
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
        let replica = self.replica;
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
            Report::Limits { limits } => {
                let memory = self.ground.wanted.wanted(&self.made.options).memory;
                limits::log(&self.made.agent, replica, &limits);
                let told = ToldLimits::of(limits, memory, &self.ground.groups, replica.0);
                self.send(Message::Limits { replica, told }).await;
            }
            Report::Log { line } => self.ground.logs.add(&self.made.agent, line),
            Report::LogsDropped { lines } => {
                let message =
                    format!("{lines} lines were dropped: they came faster than they can be kept");
                let line = line_of_ours(Level::Warning, message);
                self.ground.logs.add(&self.made.agent, line);
            }
            Report::Ending { .. } => {}
        }
    }

    async fn tell(&self, event: Event) {
        self.send(Message::Event(event)).await;
    }

    async fn send(&self, message: Message) {
        // The driver is gone only when the supervisor has ended.
        let _driver_is_gone = self.ground.events.send(message).await;
    }

    fn spec(&self) -> WorkerSpec {
        let (ground, made) = (&self.ground, &self.made);
        WorkerSpec {
            agent: made.agent.clone(),
            replica: self.replica,
            package_id: made.package_id.clone(),
            package: made.package.clone(),
            env: made.env.clone(),
            host: ground.host,
            port: self.port,
            grpc_port: self.grpc_port,
            socket: Some(ground.state.worker_socket(self.replica)),
            supervisor_socket: Some(ground.state.supervisor_socket()),
            supervisor_url: ground.url.clone(),
            folders: ground.state.folders_of(&made.agent),
            python: ground.python.clone(),
            grouping: ground.groups.make(self.replica.0),
            wanted: ground.wanted.wanted(&made.options),
            limits_required: ground.wanted.required(&made.options),
            limits: ground.limits,
            sessions: self.ground.sessions,
        }
    }
}

fn failed(error: &dyn std::error::Error) -> EndCause {
    EndCause::Worker {
        reason: chain(error),
    }
}

/// A line in an agent's log that the agent did not write.
fn line_of_ours(level: Level, message: String) -> LogLine {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    LogLine {
        at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        stream: Stream::Worker,
        level,
        message,
    }
}
