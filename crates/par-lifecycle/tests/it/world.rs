//! A simulated world around a fleet: processes that come up, end, ignore what they are told, lie, and die only when
//! they are killed or please to; people who ask for anything at any time; news that comes late; supervisors that die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use par_lifecycle::{
    Action, Command, Deployment, Event, Fleet, FleetStatus, Refusal, Release, Restored, Routes,
    Settings,
};
use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId};

use crate::stage::CRASH;
use crate::step::{News, Step, nth_agent};

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
    Restored(BTreeMap<AgentId, Restored>),
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) agent: AgentId,
    pub(crate) slot: u32,
    pub(crate) release: Release,
    pub(crate) port: u16,
    pub(crate) grpc_port: u16,
    /// Its dependencies were there before it was told to end.
    pub(crate) loading: bool,
    /// When it first said that it answers, unless it had been told to end by then.
    pub(crate) ready_since: Option<Instant>,
    pub(crate) frozen_since: Option<Instant>,
    pub(crate) sessions: bool,
    /// It was silent before it was told to end.
    pub(crate) silent: bool,
    pub(crate) told: Told,
    /// It is one too many, or of a release that nobody wants any more.
    pub(crate) surplus: bool,
}

/// The last that it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Told {
    Nothing,
    Drain,
    Terminate,
    Kill,
}

impl Process {
    pub(crate) fn is_told_to_end(&self) -> bool {
        self.told != Told::Nothing
    }

    /// It answers, and may go on.
    pub(crate) fn serves(&self) -> bool {
        self.ready_since.is_some() && !self.is_told_to_end()
    }
}

pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) fleet: Fleet,
    pub(crate) now: Instant,
    pub(crate) living: BTreeMap<ReplicaId, Process>,
    pub(crate) dead: Vec<ReplicaId>,
    pub(crate) highest: u64,
    pub(crate) releases: BTreeMap<(AgentId, Release), Deployment>,
    /// To be forgotten, and not to be restored.
    pub(crate) removed: BTreeSet<AgentId>,
    pub(crate) closing: bool,
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
            fleet: Fleet::new(settings.clone()),
            settings,
            now: Instant::now(),
            living: BTreeMap::new(),
            dead: vec![],
            highest: 0,
            releases: BTreeMap::new(),
            removed: BTreeSet::new(),
            closing: false,
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
            Step::Ask(ask, index) => {
                let agent = nth_agent(index);
                let release = Release(self.releases_of(&agent) + 1);
                Input::Command(ask.of(agent, release))
            }
            Step::Tell(news, index) => {
                let nth = index % self.living.len().max(1);
                let (replica, process) = self.living.iter().nth(nth)?;
                Input::Event(plausible(news, process).about(*replica))
            }
            Step::Late(news, index) => Input::Event(self.late(news, index)),
            Step::Obey(index) => Input::Event(self.obedience(index)?),
            Step::ComeUp(index) => Input::Event(self.arrival(index)?),
            Step::Wait(time) => {
                self.now += time;
                return None;
            }
            Step::WaitForDeadline => {
                self.now = self.now.max(self.fleet.next_deadline()?);
                Input::Event(Event::Tick)
            }
            Step::Rebirth(fates) => return Some(self.rebirth(fates)),
            Step::StopAll => Input::Command(Command::StopAll),
            Step::KillAll => Input::Command(Command::KillAll),
        };
        Some(self.feed(input))
    }

    fn releases_of(&self, agent: &AgentId) -> u32 {
        let all = (agent.clone(), Release(0))..=(agent.clone(), Release(u32::MAX));
        let last = self.releases.range(all).next_back();
        last.map_or(0, |((_, release), _)| release.0)
    }

    pub(crate) fn ask(&mut self, command: Command) -> Moment {
        self.feed(Input::Command(command))
    }

    pub(crate) fn feed(&mut self, input: Input) -> Moment {
        let ended = match &input {
            Input::Command(command) => {
                self.asked(command);
                None
            }
            Input::Event(event) => self.happened(event),
            Input::Restored(_) => None,
        };
        if let Input::Restored(agents) = &input {
            agents.iter().for_each(|(agent, it)| self.let_go(agent, it));
        }
        let outcome = match input.clone() {
            Input::Command(command) => self.fleet.command(self.now, command),
            Input::Event(event) => Ok(self.fleet.handle(self.now, event)),
            Input::Restored(agents) => Ok(self.fleet.restore(self.now, agents)),
        };
        if let (Input::Command(Command::Scale(agent, replicas)), Ok(_)) = (&input, &outcome) {
            let processes = self.living.values_mut().filter(|it| it.agent == *agent);
            processes.for_each(|it| it.surplus |= it.slot >= *replicas);
        }
        let actions = outcome.iter().flatten();
        actions.for_each(|action| self.obey(action));
        if let (Input::Command(Command::Remove(agent)), Ok(_)) = (&input, &outcome)
            && self.fleet.agent(agent).is_some()
        {
            self.removed.insert(agent.clone());
        }
        Moment {
            input,
            ended,
            outcome,
        }
    }

    fn asked(&mut self, command: &Command) {
        match command {
            Command::Deploy(agent, deployment, _) => {
                let key = (agent.clone(), deployment.release);
                self.releases.insert(key, *deployment);
            }
            Command::StopAll | Command::KillAll => self.closing = true,
            _ => {}
        }
    }

    fn happened(&mut self, event: &Event) -> Option<Process> {
        let now = self.now;
        match event {
            Event::Exited(replica, _) => {
                self.dead.push(*replica);
                return self.living.remove(replica);
            }
            Event::Prepared(replica) => self.unbothered(*replica)?.loading = true,
            Event::Ready(replica) => {
                let process = self.unbothered(*replica)?;
                process.ready_since.get_or_insert(now);
            }
            Event::Busy(replica) => self.unbothered(*replica)?.frozen_since = None,
            Event::Sessions { replica, any } => self.living.get_mut(replica)?.sessions = *any,
            Event::Silent { replica, .. } => self.unbothered(*replica)?.silent = true,
            _ => {}
        }
        None
    }

    pub(crate) fn sight(&self) -> Sight {
        Sight {
            status: self.fleet.status(),
            routes: self.fleet.routes(),
            deadline: self.fleet.next_deadline(),
            idle: self.fleet.is_idle(),
        }
    }

    /// Those that have died last.
    pub(crate) fn lately_dead(&self) -> impl Iterator<Item = ReplicaId> {
        self.dead.iter().rev().take(8).copied()
    }

    /// Whoever is removed is forgotten as soon as nothing of it lives.
    pub(crate) fn check_removed(&self) {
        for agent in &self.removed {
            assert!(
                self.processes_of(agent).next().is_some(),
                "{agent} is still known"
            );
        }
    }

    pub(crate) fn processes_of<'a>(
        &'a self,
        agent: &'a AgentId,
    ) -> impl Iterator<Item = &'a Process> {
        self.living.values().filter(move |it| it.agent == *agent)
    }

    /// The one that has the slot.
    pub(crate) fn process(&self, agent: &AgentId, release: Release, slot: u32) -> Option<&Process> {
        let place = |it: &&Process| it.agent == *agent && it.release == release && it.slot == slot;
        self.living.values().filter(place).find(|it| !it.surplus)
    }

    pub(crate) fn late(&self, news: News, index: usize) -> Event {
        let replica = match self.dead.len() {
            0 => ReplicaId(u64::MAX),
            many => self.dead[many - 1 - index % many],
        };
        news.about(replica)
    }

    /// The killed die: nobody survives that.
    pub(crate) fn bury_the_killed(&mut self) {
        let killed = |(replica, process): (&ReplicaId, &Process)| {
            (process.told == Told::Kill).then_some(*replica)
        };
        let killed: Vec<ReplicaId> = self.living.iter().filter_map(killed).collect();
        for replica in killed {
            self.feed(Input::Event(Event::Exited(replica, CRASH)));
        }
    }

    /// What one says that was told something and does it.
    fn obedience(&self, index: usize) -> Option<Event> {
        let told = |(_, process): &(&ReplicaId, &Process)| process.is_told_to_end();
        let many = self.living.iter().filter(told).count();
        let nth = index % many.max(1);
        let (replica, process) = self.living.iter().filter(told).nth(nth)?;
        Some(match process.told {
            Told::Drain => Event::Drained(*replica),
            _ => Event::Exited(*replica, EndCause::Asked),
        })
    }

    fn arrival(&self, index: usize) -> Option<Event> {
        let comes =
            |(_, it): &(&ReplicaId, &Process)| it.ready_since.is_none() && !it.is_told_to_end();
        let many = self.living.iter().filter(comes).count();
        let nth = index % many.max(1);
        let (replica, _) = self.living.iter().filter(comes).nth(nth)?;
        Some(Event::Ready(*replica))
    }

    /// One that has not been told to end.
    fn unbothered(&mut self, replica: ReplicaId) -> Option<&mut Process> {
        let process = self.living.get_mut(&replica)?;
        (!process.is_told_to_end()).then_some(process)
    }

    fn obey(&mut self, action: &Action) {
        match action {
            Action::Spawn { replica, .. } => self.spawn(*replica, action),
            Action::Freeze(replica) => {
                let now = self.now;
                let process = self.told(*replica);
                assert!(process.serves(), "{replica} is frozen, and does not serve");
                assert_eq!(process.frozen_since, None, "{replica} is frozen already");
                process.frozen_since = Some(now);
            }
            Action::Drain { replica, .. } => self.end(*replica, Told::Drain),
            Action::Terminate(replica) => self.end(*replica, Told::Terminate),
            Action::Kill(replica) => self.end(*replica, Told::Kill),
            Action::Forget(agent) => {
                assert_eq!(
                    self.processes_of(agent).count(),
                    0,
                    "{agent} is forgotten alive"
                );
                self.removed.remove(agent);
            }
            Action::Tell(_) => {}
        }
    }

    fn told(&mut self, replica: ReplicaId) -> &mut Process {
        let process = self.living.get_mut(&replica);
        process.expect("only the living are told anything")
    }

    fn end(&mut self, replica: ReplicaId, told: Told) {
        let process = self.told(replica);
        // One that took its time may be told to hurry.
        let hurries = told == Told::Drain && process.told == Told::Drain;
        assert!(
            process.told < told || hurries,
            "{replica} is told {told:?} after {:?}",
            process.told
        );
        process.told = told;
    }

    fn spawn(&mut self, id: ReplicaId, spawn: &Action) {
        let Action::Spawn {
            replica: _,
            agent,
            slot,
            release,
            port,
            grpc_port,
        } = spawn
        else {
            return;
        };
        let process = Process {
            agent: agent.clone(),
            slot: *slot,
            release: *release,
            port: *port,
            grpc_port: *grpc_port,
            loading: false,
            ready_since: None,
            frozen_since: None,
            sessions: false,
            silent: false,
            told: Told::Nothing,
            surplus: false,
        };
        assert!(id.0 > self.highest, "{id} is not new");
        self.highest = id.0;
        self.check_place(&process);
        self.living.insert(id, process);
    }

    /// Its ports are nobody's, and so is its slot, unless somebody ends in it who has been replaced.
    fn check_place(&self, new: &Process) {
        let ports = [new.port, new.grpc_port];
        assert!(self.settings.ports.contains(&new.port), "{new:?}");
        assert_eq!(new.grpc_port, new.port + self.settings.grpc_offset);
        for other in self.living.values() {
            let shared = ports.contains(&other.port) || ports.contains(&other.grpc_port);
            assert!(!shared, "{new:?} has a port of {other:?}");
            let place = |it: &Process| (it.agent.clone(), it.release, it.slot);
            assert!(
                other.surplus || place(new) != place(other),
                "{new:?} beside {other:?}"
            );
        }
    }
}

/// Only who has not bound its ports yet can find them taken.
fn plausible(news: News, process: &Process) -> News {
    let binds = process.ready_since.is_none() && !process.is_told_to_end();
    match news {
        News::Exited(EndCause::PortTaken { .. }) if !binds => News::Exited(CRASH),
        news => news,
    }
}
