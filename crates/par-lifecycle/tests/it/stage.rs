//! A fleet and a clock for stories.

use std::mem;
use std::time::{Duration, Instant};

use par_lifecycle::{
    Action, AgentStatus, Beside, Command, Deployment, Event, Fleet, Incarnation, Note, Refusal,
    Release, ReplicaStatus, Restored, Route, Settings, Targets, What,
};
use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId, RestartMode, RestartPolicy};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const CRASH: EndCause = EndCause::Exit { code: 3 };
pub(crate) const CLEAN: EndCause = EndCause::Exit { code: 0 };

pub(crate) fn agent(name: &str) -> AgentId {
    name.parse().expect("names in tests are valid")
}

pub(crate) fn settings() -> Settings {
    Settings {
        ports: 8001..=8004,
        port_tries: 3,
        prepare_timeout: 100 * SECOND,
        start_timeout: 20 * SECOND,
        drain_timeout: 10 * SECOND,
        retire_timeout: 60 * SECOND,
        stop_grace: 5 * SECOND,
        stable_after: 30 * SECOND,
        ..Settings::default()
    }
}

pub(crate) fn deployment(mode: RestartMode) -> Deployment {
    Deployment {
        release: Release(1),
        replicas: 1,
        restart: RestartPolicy {
            mode,
            ..RestartPolicy::default()
        },
        start_timeout: None,
        stop_when_frozen_for: None,
    }
}

pub(crate) fn release(number: u32, replicas: u32) -> Deployment {
    Deployment {
        release: Release(number),
        replicas,
        ..deployment(RestartMode::OnFailure)
    }
}

pub(crate) fn load_failed() -> EndCause {
    EndCause::LoadFailed {
        reason: "No module named 'x'".to_owned(),
        traceback: Some("Traceback …".to_owned()),
    }
}

pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    pub(crate) now: Instant,
    notes: Vec<Note>,
}

impl Stage {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            fleet: Fleet::new(settings),
            now: Instant::now(),
            notes: vec![],
        }
    }

    /// On it, `a` runs with one replica.
    pub(crate) fn with_running(deployment: Deployment) -> (Self, ReplicaId) {
        let (stage, replicas) = Self::with_all_running(deployment);
        (stage, replicas[0])
    }

    /// On it, all replicas of `a` run.
    pub(crate) fn with_all_running(deployment: Deployment) -> (Self, Vec<ReplicaId>) {
        let mut stage = Self::new(Settings {
            ports: 8001..=8012,
            ..settings()
        });
        let actions = stage.ask(Command::Deploy(agent("a"), deployment, Beside::Refuse));
        let replicas = spawns(&actions);
        stage.ready(&replicas);
        (stage, replicas)
    }

    pub(crate) fn ask(&mut self, command: Command) -> Vec<Action> {
        self.try_ask(command).expect("the command is taken")
    }

    pub(crate) fn try_ask(&mut self, command: Command) -> Result<Vec<Action>, Refusal> {
        let actions = self.fleet.command(self.now, command)?;
        Ok(self.listen(actions))
    }

    pub(crate) fn tell(&mut self, event: Event) -> Vec<Action> {
        let actions = self.fleet.handle(self.now, event);
        self.listen(actions)
    }

    pub(crate) fn restore(&mut self, name: &str, restored: Restored) -> Vec<Action> {
        let actions = self.fleet.restore(self.now, [(agent(name), restored)]);
        self.listen(actions)
    }

    /// Keeps what people are told, and gives back what is to be done.
    fn listen(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut to_do = vec![];
        for action in actions {
            match action {
                Action::Tell(note) => self.notes.push(note),
                action => to_do.push(action),
            }
        }
        to_do
    }

    /// What people were told since this was asked last.
    pub(crate) fn heard(&mut self) -> Vec<What> {
        let notes = mem::take(&mut self.notes);
        notes.into_iter().map(|note| note.what).collect()
    }

    pub(crate) fn heard_notes(&mut self) -> Vec<Note> {
        mem::take(&mut self.notes)
    }

    pub(crate) fn ready(&mut self, replicas: &[ReplicaId]) {
        for replica in replicas {
            self.tell(Event::Ready(*replica));
        }
    }

    /// Each ends as it was asked to.
    pub(crate) fn obey(&mut self, replicas: &[ReplicaId]) -> Vec<Action> {
        let ended = |replica: &ReplicaId| self.tell(Event::Exited(*replica, EndCause::Asked));
        replicas.iter().flat_map(ended).collect()
    }

    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.tell(Event::Tick)
    }

    pub(crate) fn deploy(&mut self, name: &str, deployment: Deployment) -> ReplicaId {
        let actions = self.ask(Command::Deploy(agent(name), deployment, Beside::Refuse));
        only_spawn(&actions)
    }

    /// A release of `a` that comes in beside the one before.
    pub(crate) fn roll(&mut self, deployment: Deployment) -> Vec<ReplicaId> {
        spawns(&self.ask(Command::Deploy(agent("a"), deployment, Beside::Roll)))
    }

    pub(crate) fn canary(&mut self, deployment: Deployment, permille: u16) -> Vec<ReplicaId> {
        let beside = Beside::Canary { permille };
        spawns(&self.ask(Command::Deploy(agent("a"), deployment, beside)))
    }

    /// The replica that takes the place of `replica`, which ends in this way.
    pub(crate) fn ends_and_restarts(&mut self, replica: ReplicaId, cause: EndCause) -> ReplicaId {
        only_spawn(&self.tell(Event::Exited(replica, cause)))
    }

    pub(crate) fn agent(&self, name: &str) -> AgentStatus {
        let status = self.fleet.agent(&agent(name));
        status.expect("the agent is known")
    }

    /// The first replica of the current release.
    pub(crate) fn status(&self, name: &str) -> ReplicaStatus {
        self.agent(name).replicas.swap_remove(0)
    }

    pub(crate) fn incarnation(&self, name: &str) -> Incarnation {
        self.status(name).incarnation.expect("the agent lives")
    }

    pub(crate) fn route(&self, name: &str) -> Route {
        self.fleet.routes()[name].clone()
    }
}

/// All calls go to these.
pub(crate) fn to(replicas: &[ReplicaId]) -> Route {
    groups(&[(1000, replicas)])
}

pub(crate) fn groups(groups: &[(u16, &[ReplicaId])]) -> Route {
    let owned = |(share, replicas): &(u16, &[ReplicaId])| (*share, replicas.to_vec());
    Route::Ready(Targets {
        groups: groups.iter().map(owned).collect(),
        leaving: vec![],
    })
}

/// Another release has its place, or it is one too many.
pub(crate) fn retire(replica: ReplicaId) -> Action {
    Action::Drain {
        replica,
        within: 60 * SECOND,
    }
}

pub(crate) fn drain(replica: ReplicaId) -> Action {
    Action::Drain {
        replica,
        within: 10 * SECOND,
    }
}

/// The incarnations that `actions` start.
pub(crate) fn spawns(actions: &[Action]) -> Vec<ReplicaId> {
    let spawned = actions.iter().filter_map(|action| match action {
        Action::Spawn { replica, .. } => Some(*replica),
        _ => None,
    });
    spawned.collect()
}

/// The one incarnation that `actions` start.
pub(crate) fn only_spawn(actions: &[Action]) -> ReplicaId {
    match spawns(actions)[..] {
        [replica] => replica,
        ref other => panic!("one incarnation is started, not {other:?}"),
    }
}
