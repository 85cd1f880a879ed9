//! All agents of one supervisor, and what they share: time, ports, ids, and the end.

use std::collections::BTreeMap;
use std::time::Instant;

use par_model::{AgentId, ReplicaId};

use crate::life::Life;
use crate::turn::{Supplies, Turn};
use crate::{Action, Command, Event, FleetStatus, Refusal, Routes, Settings};

#[derive(Debug)]
pub struct Fleet {
    supplies: Supplies,
    agents: BTreeMap<AgentId, Life>,
    /// Nothing new may start.
    closing: bool,
}

impl Fleet {
    pub fn new(settings: Settings) -> Self {
        Self {
            supplies: Supplies::new(settings),
            agents: BTreeMap::new(),
            closing: false,
        }
    }

    /// Takes in what somebody asks, and returns what must be done, in order.
    pub fn command(&mut self, now: Instant, command: Command) -> Result<Vec<Action>, Refusal> {
        let mut turn = Turn::new(now, &mut self.supplies);
        let starts = matches!(
            command,
            Command::Deploy(..) | Command::Start(_) | Command::Restart(..)
        );
        if starts && self.closing {
            return Err(Refusal::ShuttingDown);
        }
        match command {
            Command::Deploy(agent, deployment) => match self.agents.get_mut(&agent) {
                Some(life) => life.start(&mut turn, Some(deployment))?,
                None => {
                    let mut life = Life::new(agent.clone(), deployment);
                    life.start(&mut turn, None)?;
                    self.agents.insert(agent, life);
                }
            },
            Command::Start(agent) => find(&mut self.agents, agent)?.start(&mut turn, None)?,
            Command::Stop(agent) => find(&mut self.agents, agent)?.stop(&mut turn),
            Command::Restart(agent, replacement) => {
                find(&mut self.agents, agent)?.restart(&mut turn, replacement)?;
            }
            Command::Remove(agent) => find(&mut self.agents, agent)?.remove(&mut turn),
            Command::StopAll => {
                self.closing = true;
                self.agents
                    .values_mut()
                    .for_each(|life| life.stop(&mut turn));
            }
            Command::KillAll => {
                self.closing = true;
                self.agents
                    .values_mut()
                    .for_each(|life| life.kill(&mut turn));
            }
        }
        Ok(finish(&mut self.agents, turn))
    }

    /// Takes in `event`, and returns what must be done, in order.
    #[must_use]
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut turn = Turn::new(now, &mut self.supplies);
        let agents = &mut self.agents;
        match event {
            Event::Spawned { replica, pid } => {
                incarnated_as(replica, agents).for_each(|life| life.spawned(pid));
            }
            Event::Prepared(replica) => {
                incarnated_as(replica, agents).for_each(|life| life.prepared(&turn));
            }
            Event::Ready(replica) => {
                incarnated_as(replica, agents).for_each(|life| life.ready(&mut turn));
            }
            Event::Drained(replica) => {
                incarnated_as(replica, agents).for_each(|life| life.drained(&mut turn));
            }
            Event::Exited(replica, cause) => {
                if let Some(life) = incarnated_as(replica, agents).next() {
                    life.exited(&mut turn, cause);
                }
            }
            Event::Tick => agents.values_mut().for_each(|life| life.tick(&mut turn)),
        }
        finish(agents, turn)
    }

    /// When to send [`Event::Tick`] next, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.agents.values().filter_map(Life::deadline).min()
    }

    pub fn routes(&self) -> Routes {
        let route = |life: &Life| (life.agent.clone(), life.route());
        self.agents.values().map(route).collect()
    }

    pub fn status(&self) -> FleetStatus {
        let status = |life: &Life| (life.agent.clone(), life.status());
        self.agents.values().map(status).collect()
    }

    /// No incarnation lives, and none will come by itself.
    pub fn is_idle(&self) -> bool {
        self.agents.values().all(Life::is_at_rest)
    }
}

fn find(agents: &mut BTreeMap<AgentId, Life>, agent: AgentId) -> Result<&mut Life, Refusal> {
    agents.get_mut(&agent).ok_or(Refusal::NotFound(agent))
}

/// One life or none: news of the dead finds nobody.
fn incarnated_as(
    replica: ReplicaId,
    agents: &mut BTreeMap<AgentId, Life>,
) -> impl Iterator<Item = &mut Life> {
    agents
        .values_mut()
        .filter(move |life| life.is_incarnated_as(replica))
}

/// Forgets who is gone.
fn finish(agents: &mut BTreeMap<AgentId, Life>, mut turn: Turn<'_>) -> Vec<Action> {
    agents.retain(|agent, life| {
        let gone = life.is_gone();
        if gone {
            turn.forget(agent);
        }
        !gone
    });
    turn.actions
}
