//! A fleet and a clock for stories.

use std::time::{Duration, Instant};

use par_lifecycle::{
    Action, AgentStatus, Command, Deployment, Event, Fleet, Incarnation, Refusal, Release, Route,
    Settings,
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
        stop_grace: 5 * SECOND,
        stable_after: 30 * SECOND,
        ..Settings::default()
    }
}

pub(crate) fn deployment(mode: RestartMode) -> Deployment {
    Deployment {
        release: Release(1),
        restart: RestartPolicy {
            mode,
            ..RestartPolicy::default()
        },
        start_timeout: None,
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
}

impl Stage {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            fleet: Fleet::new(settings),
            now: Instant::now(),
        }
    }

    /// On it, `a` runs.
    pub(crate) fn with_running(deployment: Deployment) -> (Self, ReplicaId) {
        let mut stage = Self::new(settings());
        let replica = stage.deploy("a", deployment);
        stage.tell(Event::Ready(replica));
        (stage, replica)
    }

    pub(crate) fn ask(&mut self, command: Command) -> Vec<Action> {
        self.try_ask(command).expect("the command is taken")
    }

    pub(crate) fn try_ask(&mut self, command: Command) -> Result<Vec<Action>, Refusal> {
        self.fleet.command(self.now, command)
    }

    pub(crate) fn tell(&mut self, event: Event) -> Vec<Action> {
        self.fleet.handle(self.now, event)
    }

    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.tell(Event::Tick)
    }

    pub(crate) fn deploy(&mut self, name: &str, deployment: Deployment) -> ReplicaId {
        let actions = self.ask(Command::Deploy(agent(name), deployment));
        only_spawn(&actions)
    }

    /// The replica that takes the place of `replica`, which ends in this way.
    pub(crate) fn ends_and_restarts(&mut self, replica: ReplicaId, cause: EndCause) -> ReplicaId {
        only_spawn(&self.tell(Event::Exited(replica, cause)))
    }

    pub(crate) fn status(&self, name: &str) -> AgentStatus {
        let mut fleet = self.fleet.status();
        fleet.remove(name).expect("the agent is known")
    }

    pub(crate) fn incarnation(&self, name: &str) -> Incarnation {
        self.status(name).incarnation.expect("the agent lives")
    }

    pub(crate) fn route(&self, name: &str) -> Route {
        self.fleet.routes()[name]
    }
}

/// The incarnation that `actions` start.
pub(crate) fn only_spawn(actions: &[Action]) -> ReplicaId {
    let mut spawned = actions.iter().filter_map(|action| match action {
        Action::Spawn { replica, .. } => Some(*replica),
        _ => None,
    });
    let replica = spawned.next().expect("an incarnation is started");
    assert_eq!(spawned.next(), None, "only one is started");
    replica
}
