//! All agents of one supervisor, and what they share: time, ports, ids, and the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use par_model::{AgentId, ReplicaId};

use crate::agent::Agent;
use crate::life::Life;
use crate::turn::{Supplies, Turn};
use crate::{
    Action, AgentStatus, Beside, Command, Deployment, Event, FleetStatus, Refusal, Restored,
    Routes, Settings,
};

#[derive(Debug)]
pub struct Fleet {
    supplies: Supplies,
    agents: BTreeMap<AgentId, Agent>,
    changed: BTreeSet<AgentId>,
}

impl Fleet {
    pub fn new(settings: Settings) -> Self {
        Self {
            supplies: Supplies::new(settings),
            agents: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Takes in the agents as an earlier supervisor left them, all together, so that none is started on a port that
    /// another holds or comes back to. Before anything else is asked of the fleet.
    #[must_use]
    pub fn restore(
        &mut self,
        now: Instant,
        agents: impl IntoIterator<Item = (AgentId, Restored)>,
    ) -> Vec<Action> {
        let mut turn = Turn::new(now, &mut self.supplies);
        let agents: Vec<(AgentId, Restored)> = agents.into_iter().collect();
        for (agent, restored) in &agents {
            restored.claim(agent, &mut turn);
        }
        let mut actions = turn.actions;
        for (agent, restored) in agents {
            let mut turn = Turn::new(now, &mut self.supplies);
            let life = Agent::restored(agent.clone(), &mut turn, restored);
            actions.append(&mut turn.actions);
            self.agents.insert(agent.clone(), life);
            actions.extend(self.settle(now, &agent));
        }
        actions
    }

    /// Takes in what somebody asks, and returns what must be done, in order.
    pub fn command(&mut self, now: Instant, command: Command) -> Result<Vec<Action>, Refusal> {
        match command {
            Command::StopAll => Ok(self.all(now, Agent::end)),
            Command::KillAll => Ok(self.all(now, Agent::kill)),
            Command::Deploy(agent, deployment, beside) => {
                self.deploy(now, agent, deployment, beside)
            }
            Command::Promote(agent) => self.starting(now, agent, Agent::promote),
            Command::Scale(agent, replicas) => {
                self.starting(now, agent, |it, turn| it.scale(turn, replicas))
            }
            Command::Start(agent) => self.starting(now, agent, Agent::start),
            Command::Restart(agent) => self.starting(now, agent, Agent::restart),
            Command::Wake(agent) => self.starting(now, agent, Agent::wake),
            Command::Abandon(agent) => self.one(now, agent, Agent::abandon),
            Command::Stop(agent) => self.one(now, agent, |it, turn| {
                it.stop(turn);
                Ok(())
            }),
            Command::Remove(agent) => self.one(now, agent, |it, turn| {
                it.remove(turn);
                Ok(())
            }),
        }
    }

    fn deploy(
        &mut self,
        now: Instant,
        agent: AgentId,
        deployment: Deployment,
        beside: Beside,
    ) -> Result<Vec<Action>, Refusal> {
        if self.agents.contains_key(&agent) {
            return self.starting(now, agent, |it, turn| it.deploy(turn, deployment, beside));
        }
        self.check_open()?;
        if matches!(beside, Beside::Canary { .. }) {
            return Err(Refusal::NotFound(agent));
        }
        let mut turn = Turn::new(now, &mut self.supplies);
        let mut new = Agent::new(agent.clone(), deployment);
        new.begin(&mut turn)?;
        let mut actions = turn.actions;
        self.agents.insert(agent.clone(), new);
        actions.extend(self.settle(now, &agent));
        Ok(actions)
    }

    fn check_open(&self) -> Result<(), Refusal> {
        match self.supplies.closing {
            true => Err(Refusal::ShuttingDown),
            false => Ok(()),
        }
    }

    /// For what may start something.
    fn starting(
        &mut self,
        now: Instant,
        agent: AgentId,
        ask: impl FnOnce(&mut Agent, &mut Turn<'_>) -> Result<(), Refusal>,
    ) -> Result<Vec<Action>, Refusal> {
        self.check_open()?;
        self.one(now, agent, ask)
    }

    fn one(
        &mut self,
        now: Instant,
        agent: AgentId,
        ask: impl FnOnce(&mut Agent, &mut Turn<'_>) -> Result<(), Refusal>,
    ) -> Result<Vec<Action>, Refusal> {
        let mut turn = Turn::new(now, &mut self.supplies);
        let Some(asked) = self.agents.get_mut(&agent) else {
            return Err(Refusal::NotFound(agent));
        };
        ask(asked, &mut turn)?;
        let mut actions = turn.actions;
        actions.extend(self.settle(now, &agent));
        Ok(actions)
    }

    /// Nothing new may start from here on.
    fn all(&mut self, now: Instant, ask: impl Fn(&mut Agent, &mut Turn<'_>)) -> Vec<Action> {
        let mut turn = Turn::new(now, &mut self.supplies);
        turn.close();
        self.agents.values_mut().for_each(|it| ask(it, &mut turn));
        let mut actions = turn.actions;
        let agents: Vec<AgentId> = self.agents.keys().cloned().collect();
        for agent in agents {
            actions.extend(self.settle(now, &agent));
        }
        actions
    }

    /// Takes in `event`, and returns what must be done, in order.
    #[must_use]
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match event {
            Event::Tick => self.tick(now),
            Event::Spawned { replica, pid } => {
                self.incarnated_as(now, replica, |life, _| life.spawned(pid))
            }
            Event::Prepared(replica) => {
                self.incarnated_as(now, replica, |life, turn| life.prepared(turn))
            }
            Event::Ready(replica) => self.incarnated_as(now, replica, Life::ready),
            Event::Quiet(replica) => self.incarnated_as(now, replica, Life::quiet),
            Event::Busy(replica) => self.incarnated_as(now, replica, Life::busy),
            Event::Sessions { replica, any } => {
                self.incarnated_as(now, replica, |life, turn| life.sessions(turn, any))
            }
            Event::Silent { replica, after } => {
                self.incarnated_as(now, replica, |life, turn| life.silent(turn, after))
            }
            Event::Drained(replica) => self.incarnated_as(now, replica, Life::drained),
            Event::Exited(replica, cause) => {
                self.incarnated_as(now, replica, |life, turn| life.exited(turn, cause))
            }
        }
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        let due = |agent: &Agent| agent.deadline().is_some_and(|at| at <= now);
        let due: Vec<AgentId> = self
            .agents
            .iter()
            .filter(|(_, agent)| due(agent))
            .map(|(id, _)| id.clone())
            .collect();
        let mut actions = vec![];
        for id in due {
            let mut turn = Turn::new(now, &mut self.supplies);
            if let Some(agent) = self.agents.get_mut(&id) {
                agent.tick(&mut turn);
            }
            actions.append(&mut turn.actions);
            actions.extend(self.settle(now, &id));
        }
        actions
    }

    /// News of the dead finds nobody.
    fn incarnated_as(
        &mut self,
        now: Instant,
        replica: ReplicaId,
        tell: impl FnOnce(&mut Life, &mut Turn<'_>),
    ) -> Vec<Action> {
        let Some(id) = self.supplies.owner(replica).cloned() else {
            return vec![];
        };
        let mut turn = Turn::new(now, &mut self.supplies);
        let agent = self.agents.get_mut(&id);
        if let Some(life) = agent.and_then(|it| it.incarnated_as(replica)) {
            tell(life, &mut turn);
        }
        let mut actions = turn.actions;
        actions.extend(self.settle(now, &id));
        actions
    }

    /// Draws the conclusions for one agent, and forgets it when it is gone.
    fn settle(&mut self, now: Instant, id: &AgentId) -> Vec<Action> {
        self.changed.insert(id.clone());
        let mut turn = Turn::new(now, &mut self.supplies);
        let Some(agent) = self.agents.get_mut(id) else {
            return turn.actions;
        };
        agent.settle(&mut turn);
        if agent.is_gone() {
            turn.forget(id);
            self.agents.remove(id);
        }
        turn.actions
    }

    /// The agents of which anything may have changed since this was asked last.
    pub fn take_changed(&mut self) -> BTreeSet<AgentId> {
        std::mem::take(&mut self.changed)
    }

    /// When to send [`Event::Tick`] next, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.agents.values().filter_map(Agent::deadline).min()
    }

    /// The agent whose incarnation this is, as long as it lives.
    pub fn owner(&self, replica: ReplicaId) -> Option<&AgentId> {
        self.supplies.owner(replica)
    }

    pub fn agent(&self, agent: &AgentId) -> Option<AgentStatus> {
        self.agents.get(agent).map(Agent::status)
    }

    pub fn routes(&self) -> Routes {
        let route = |(id, agent): (&AgentId, &Agent)| (id.clone(), agent.route());
        self.agents.iter().map(route).collect()
    }

    pub fn status(&self) -> FleetStatus {
        let status = |(id, agent): (&AgentId, &Agent)| (id.clone(), agent.status());
        self.agents.iter().map(status).collect()
    }

    /// No incarnation lives, and none will come by itself.
    pub fn is_idle(&self) -> bool {
        self.agents.values().all(Agent::is_at_rest)
    }
}
