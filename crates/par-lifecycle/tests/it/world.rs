//! A simulated world around a fleet: processes that come up, end, ignore what they are told, and die only when
//! they are killed or please to; people who ask for anything at any time; news that comes late.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use par_lifecycle::{
    Action, Command, Deployment, Event, Fleet, FleetStatus, Refusal, Release, Routes, Settings,
};
use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId, RestartMode, RestartPolicy};
use proptest::prelude::*;

use crate::stage::{self, CLEAN, CRASH, SECOND};

pub(crate) const AGENTS: usize = 4;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Ask(Ask, usize),
    /// One of the living has news.
    Tell(News, usize),
    /// One of the dead, or somebody who never lived, has news.
    Late(News, usize),
    Wait(Duration),
    WaitForDeadline,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Deploy(Deployment),
    Start,
    Stop,
    Restart(Option<Deployment>),
    Remove,
}

#[derive(Clone, Debug)]
pub(crate) enum News {
    Spawned,
    Prepared,
    Ready,
    Drained,
    Exited(EndCause),
}

/// What was given to the fleet, and what it answered.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) input: Input,
    /// The process whose exit was the news.
    pub(crate) ended: Option<Process>,
    pub(crate) outcome: Result<Vec<Action>, Refusal>,
}

#[derive(Clone, Debug)]
pub(crate) enum Input {
    Command(Command),
    Event(Event),
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) agent: AgentId,
    pub(crate) port: u16,
    pub(crate) grpc_port: u16,
    /// Its dependencies were there before it was told to end.
    pub(crate) loading: bool,
    /// When it first said that it answers, unless it had been told to end by then.
    pub(crate) ready_since: Option<Instant>,
    pub(crate) told_to_end: bool,
    pub(crate) killed: bool,
}

pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) now: Instant,
    pub(crate) living: BTreeMap<ReplicaId, Process>,
    dead: Vec<ReplicaId>,
}

/// All that can be seen of a fleet.
#[derive(Debug, PartialEq)]
pub(crate) struct Sight {
    status: FleetStatus,
    routes: Routes,
    deadline: Option<Instant>,
    idle: bool,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            fleet: Fleet::new(settings),
            now: Instant::now(),
            living: BTreeMap::new(),
            dead: vec![],
        }
    }

    pub(crate) fn after(settings: Settings, steps: Vec<Step>) -> Self {
        let mut world = Self::new(settings);
        for step in steps {
            world.step(step);
        }
        world
    }

    /// `None`: there is nobody who could do that.
    pub(crate) fn step(&mut self, step: Step) -> Option<Moment> {
        let input = match step {
            Step::Ask(ask, index) => Input::Command(ask.of(nth_agent(index))),
            Step::Tell(news, index) => {
                let nth = index % self.living.len().max(1);
                let (replica, process) = self.living.iter().nth(nth)?;
                Input::Event(news.of(*replica, process))
            }
            Step::Late(news, index) => Input::Event(self.late(news, index)),
            Step::Wait(time) => {
                self.now += time;
                return None;
            }
            Step::WaitForDeadline => {
                self.now = self.now.max(self.fleet.next_deadline()?);
                Input::Event(Event::Tick)
            }
        };
        Some(self.feed(input))
    }

    pub(crate) fn feed(&mut self, input: Input) -> Moment {
        let mut ended = None;
        match &input {
            Input::Event(Event::Exited(replica, _)) => {
                ended = self.living.remove(replica);
                self.dead.push(*replica);
            }
            Input::Event(Event::Prepared(replica)) => {
                if let Some(process) = self.unbothered(*replica) {
                    process.loading = true;
                }
            }
            Input::Event(Event::Ready(replica)) => {
                let now = self.now;
                if let Some(process) = self.unbothered(*replica) {
                    process.ready_since.get_or_insert(now);
                }
            }
            _ => {}
        }
        let outcome = match input.clone() {
            Input::Command(command) => self.fleet.command(self.now, command),
            Input::Event(event) => Ok(self.fleet.handle(self.now, event)),
        };
        outcome
            .iter()
            .flatten()
            .for_each(|action| self.obey(action));
        Moment {
            input,
            ended,
            outcome,
        }
    }

    pub(crate) fn sight(&self) -> Sight {
        Sight {
            status: self.fleet.status(),
            routes: self.fleet.routes(),
            deadline: self.fleet.next_deadline(),
            idle: self.fleet.is_idle(),
        }
    }

    pub(crate) fn process_of(&self, agent: &AgentId) -> Option<&Process> {
        self.living.values().find(|process| process.agent == *agent)
    }

    pub(crate) fn late(&self, news: News, index: usize) -> Event {
        let replica = match self.dead.len() {
            0 => ReplicaId(u64::MAX),
            many => self.dead[index % many],
        };
        news.about(replica)
    }

    /// The killed die: nobody survives that.
    pub(crate) fn bury_the_killed(&mut self) {
        let killed =
            |(replica, process): (&ReplicaId, &Process)| process.killed.then_some(*replica);
        let killed: Vec<ReplicaId> = self.living.iter().filter_map(killed).collect();
        for replica in killed {
            self.feed(Input::Event(Event::Exited(replica, CRASH)));
        }
    }

    /// One that has not been told to end.
    fn unbothered(&mut self, replica: ReplicaId) -> Option<&mut Process> {
        let process = self.living.get_mut(&replica)?;
        (!process.told_to_end).then_some(process)
    }

    fn obey(&mut self, action: &Action) {
        match action {
            Action::Spawn {
                replica,
                agent,
                port,
                grpc_port,
                ..
            } => {
                let process = Process {
                    agent: agent.clone(),
                    port: *port,
                    grpc_port: *grpc_port,
                    loading: false,
                    ready_since: None,
                    told_to_end: false,
                    killed: false,
                };
                let before = self.living.insert(*replica, process);
                assert!(before.is_none(), "{replica} was given twice");
                assert!(!self.dead.contains(replica), "{replica} has lived before");
            }
            Action::Drain { replica, .. } | Action::Terminate(replica) | Action::Kill(replica) => {
                let process = self.living.get_mut(replica);
                let process = process.expect("only the living are told to end");
                process.told_to_end = true;
                process.killed |= matches!(action, Action::Kill(_));
            }
            Action::Publish { .. } | Action::Withdraw { .. } | Action::Forget(_) => {}
        }
    }
}

impl Ask {
    fn of(self, agent: AgentId) -> Command {
        match self {
            Self::Deploy(deployment) => Command::Deploy(agent, deployment),
            Self::Start => Command::Start(agent),
            Self::Stop => Command::Stop(agent),
            Self::Restart(replacement) => Command::Restart(agent, replacement),
            Self::Remove => Command::Remove(agent),
        }
    }
}

impl News {
    fn of(self, replica: ReplicaId, process: &Process) -> Event {
        let binds = process.ready_since.is_none() && !process.told_to_end;
        match self {
            Self::Exited(EndCause::PortTaken { .. }) if !binds => Event::Exited(replica, CRASH),
            news => news.about(replica),
        }
    }

    fn about(self, replica: ReplicaId) -> Event {
        match self {
            Self::Spawned => Event::Spawned { replica, pid: 1 },
            Self::Prepared => Event::Prepared(replica),
            Self::Ready => Event::Ready(replica),
            Self::Drained => Event::Drained(replica),
            Self::Exited(cause) => Event::Exited(replica, cause),
        }
    }
}

pub(crate) fn nth_agent(index: usize) -> AgentId {
    stage::agent(["a", "b", "c", "d"][index % AGENTS])
}

pub(crate) fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any_step(), 0..80)
}

pub(crate) fn any_news() -> impl Strategy<Value = News> {
    let cause = prop_oneof![
        4 => Just(CRASH),
        1 => Just(CLEAN),
        1 => Just(EndCause::Asked),
        1 => Just(stage::load_failed()),
        2 => Just(EndCause::PortTaken { port: 1 }),
    ];
    prop_oneof![
        1 => Just(News::Spawned),
        1 => Just(News::Prepared),
        5 => Just(News::Ready),
        1 => Just(News::Drained),
        5 => cause.prop_map(News::Exited),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any_ask(), 0..AGENTS).prop_map(|(ask, agent)| Step::Ask(ask, agent)),
        6 => (any_news(), 0..AGENTS).prop_map(|(news, whom)| Step::Tell(news, whom)),
        1 => (any_news(), 0..AGENTS).prop_map(|(news, whom)| Step::Late(news, whom)),
        2 => (0_u32..40).prop_map(|seconds| Step::Wait(seconds * SECOND)),
        3 => Just(Step::WaitForDeadline),
    ]
}

fn any_ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        6 => any_deployment().prop_map(Ask::Deploy),
        2 => Just(Ask::Start),
        2 => Just(Ask::Stop),
        2 => prop::option::of(any_deployment()).prop_map(Ask::Restart),
        1 => Just(Ask::Remove),
    ]
}

fn any_deployment() -> impl Strategy<Value = Deployment> {
    let mode = prop_oneof![
        Just(RestartMode::OnFailure),
        Just(RestartMode::Always),
        Just(RestartMode::Never)
    ];
    (mode, 0_u32..4, 0_u32..10, 0_u64..9).prop_map(|(mode, max_restarts, delay, release)| {
        let restart = RestartPolicy {
            mode,
            max_restarts,
            delay: delay * SECOND,
            ..RestartPolicy::default()
        };
        Deployment {
            release: Release(release),
            restart,
            start_timeout: None,
        }
    })
}
