//! Feeds the fleet what happens, carries out what it decides, and publishes what came of it. Decides nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use par_gateway::{Backend, RouteTable};
use par_lifecycle::{Action, AgentStatus, Command, Event, Fleet, Refusal, Release, Routes};
use par_model::control::EndCause;
use par_model::log::Level;
use par_model::{AgentId, ProcessState, ReplicaId};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use crate::catalog::{Catalog, Made};
use crate::effects::Effects;
use crate::message::{Message, Running};
use crate::snapshot::{Snapshot, Told};

pub(crate) struct Driver {
    fleet: Fleet,
    catalog: Catalog,
    told: Told,
    mailbox: mpsc::Receiver<Message>,
    effects: Effects,
    routes: par_gateway::Routes,
    published: Routes,
    backends: HashMap<ReplicaId, Arc<Backend>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
}

impl Driver {
    pub(crate) fn new(
        fleet: Fleet,
        mailbox: mpsc::Receiver<Message>,
        effects: Effects,
        routes: par_gateway::Routes,
        snapshots: watch::Sender<Arc<Snapshot>>,
    ) -> Self {
        Self {
            fleet,
            catalog: Catalog::default(),
            told: Told::default(),
            mailbox,
            effects,
            routes,
            published: Routes::new(),
            backends: HashMap::new(),
            snapshots,
        }
    }

    /// Runs until nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        while let Some(message) = self.next_message().await {
            self.apply(message);
            // What has come meanwhile is one change for those who watch.
            while let Ok(message) = self.mailbox.try_recv() {
                self.apply(message);
            }
            self.publish_snapshot();
        }
    }

    /// The only place that waits.
    async fn next_message(&mut self) -> Option<Message> {
        let deadline = self.fleet.next_deadline();
        let tick = async {
            match deadline {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = self.mailbox.recv() => message,
            () = tick => Some(Message::Event(Event::Tick)),
        }
    }

    fn apply(&mut self, message: Message) {
        match message {
            Message::Command { command, answer } => {
                // Whoever asked may have stopped waiting; the command holds all the same.
                let _asker_left = answer.send(self.command(command));
            }
            Message::Deploy {
                made,
                running,
                answer,
            } => {
                let _asker_left = answer.send(self.deploy(made, running));
            }
            Message::Event(event) => {
                self.forget_what_it_told(&event);
                let ended = self.end_told_by(&event);
                let actions = self.fleet.handle(Instant::now(), event);
                self.perform(actions);
                if let Some((agent, cause)) = ended {
                    self.log_why(&agent, &cause);
                }
            }
            Message::Progress { replica, message } => {
                self.told.progress.insert(replica, message);
            }
            Message::AgentPid { replica, pid } => {
                self.told.agent_pids.insert(replica, pid);
            }
            Message::Limits { replica, told } => {
                self.told.limits.insert(replica, told);
            }
        }
    }

    fn command(&mut self, command: Command) -> Result<(), Refusal> {
        let actions = self.fleet.command(Instant::now(), command)?;
        self.perform(actions);
        Ok(())
    }

    fn deploy(&mut self, made: Made, running: Running) -> Result<Release, Refusal> {
        let agent = made.agent.clone();
        let (release, deployment) = self.catalog.add(made);
        let known = self.fleet.status().contains_key(&agent);
        let command = match running {
            Running::Replace if known => Command::Restart(agent, Some(deployment)),
            Running::Replace | Running::Refuse => Command::Deploy(agent, deployment),
        };
        self.command(command)
            .inspect_err(|_| self.catalog.remove(release))?;
        Ok(release)
    }

    fn forget_what_it_told(&mut self, event: &Event) {
        if let Event::Exited(replica, _) = event {
            self.told.progress.remove(replica);
            self.told.agent_pids.remove(replica);
            self.told.limits.remove(replica);
        }
    }

    /// The agent whose incarnation an event ends, and how it ended.
    fn end_told_by(&self, event: &Event) -> Option<(AgentId, EndCause)> {
        let Event::Exited(replica, cause) = event else {
            return None;
        };
        let status = self.fleet.status();
        let lived =
            |status: &AgentStatus| status.incarnation.is_some_and(|it| it.replica == *replica);
        let (agent, _) = status.iter().find(|(_, status)| lived(status))?;
        Some((agent.clone(), cause.clone()))
    }

    fn log_why(&self, agent: &AgentId, cause: &EndCause) {
        let status = self.fleet.status();
        let Some(now) = status.get(agent) else { return };
        let (level, what, cause) = match (now.state, &now.error) {
            (ProcessState::Failed, Some(error)) => (Level::Error, "failed to start", error),
            (ProcessState::Crashed, Some(error)) if now.restart_at.is_none() => {
                (Level::Error, "crashed for good", error)
            }
            (_, Some(error)) => (Level::Error, "ended, and is started again", error),
            (ProcessState::Stopped, None) if matches!(cause, EndCause::Exit { code: 0 }) => {
                (Level::Info, "stopped by itself", cause)
            }
            // Somebody wanted it to end.
            (_, None) => return,
        };
        self.effects.log(agent, level, format!("{what}: {cause}"));
    }

    /// Routes change before anything else does: an incarnation that is withdrawn gets no new call while it drains.
    fn perform(&mut self, actions: Vec<Action>) {
        self.publish_routes();
        for action in actions {
            match action {
                Action::Spawn {
                    replica,
                    agent,
                    release,
                    port,
                    grpc_port,
                } => {
                    let made = self
                        .catalog
                        .get(release)
                        .expect("the fleet starts only what the catalog has");
                    self.effects
                        .spawn(replica, Arc::clone(made), port, grpc_port);
                    self.backends.insert(
                        replica,
                        Backend::new(&agent, replica, self.effects.socket_of(replica)),
                    );
                }
                Action::Publish { .. } | Action::Withdraw { .. } => {}
                Action::Drain { replica, within } => self.effects.drain(replica, within),
                Action::Terminate(replica) => self.effects.terminate(replica),
                Action::Kill(replica) => self.effects.kill(replica),
                Action::Forget(agent) => self.effects.forget(&agent),
            }
        }
    }

    fn publish_routes(&mut self) {
        let routes = self.fleet.routes();
        if routes == self.published {
            return;
        }
        let table: RouteTable = routes
            .iter()
            .map(|(agent, route)| (agent.clone(), self.route(*route)))
            .collect();
        self.routes.publish(table);
        self.published = routes;
    }

    fn route(&self, route: par_lifecycle::Route) -> par_gateway::Route {
        match route {
            par_lifecycle::Route::Ready(replica) => match self.backends.get(&replica) {
                Some(backend) => par_gateway::Route::Ready(Arc::clone(backend)),
                None => par_gateway::Route::Down,
            },
            par_lifecycle::Route::Soon => par_gateway::Route::Soon,
            par_lifecycle::Route::Down => par_gateway::Route::Down,
        }
    }

    fn publish_snapshot(&mut self) {
        let status = self.fleet.status();
        let lives = |replica: &ReplicaId| {
            status
                .values()
                .any(|agent| agent.incarnation.is_some_and(|it| it.replica == *replica))
        };
        self.backends.retain(|replica, _| lives(replica));
        self.told.progress.retain(|replica, _| lives(replica));
        self.told.agent_pids.retain(|replica, _| lives(replica));
        self.told.limits.retain(|replica, _| lives(replica));
        let in_use = |release| status.values().any(|agent| agent.release == release);
        self.catalog
            .keep(|agent| status.contains_key(agent), in_use);
        let generation = self.snapshots.borrow().generation + 1;
        let snapshot = Snapshot::of(
            generation,
            &status,
            |release| self.catalog.get(release).cloned(),
            &self.told,
        );
        self.snapshots.send_replace(Arc::new(snapshot));
    }
}
