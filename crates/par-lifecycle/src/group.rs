//! The replicas of one release.

use std::collections::BTreeSet;
use std::time::Instant;

use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId};

use crate::life::{Life, Standing};
use crate::turn::Turn;
use crate::{Deployment, Incarnation, Refusal, Release};

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) deployment: Deployment,
    /// By slot, from zero, without gaps.
    pub(crate) lives: Vec<Life>,
    /// All its replicas have answered at one time.
    pub(crate) live: bool,
}

impl Group {
    /// At rest.
    pub(crate) fn new(agent: &AgentId, deployment: Deployment) -> Self {
        let replicas = deployment.replicas.max(1);
        let deployment = Deployment {
            replicas,
            ..deployment
        };
        let life = |slot| Life::new(agent.clone(), slot, deployment);
        Self {
            deployment,
            lives: (0..replicas).map(life).collect(),
            live: false,
        }
    }

    pub(crate) fn release(&self) -> Release {
        self.deployment.release
    }

    pub(crate) fn replicas(&self) -> u32 {
        self.deployment.replicas
    }

    /// Those that are missing, at rest, to be [added](Group::add).
    pub(crate) fn missing(&self, agent: &AgentId, replicas: u32) -> Vec<Life> {
        let slots = self.replicas()..replicas;
        let life = |slot| Life::new(agent.clone(), slot, self.deployment);
        slots.map(life).collect()
    }

    pub(crate) fn add(&mut self, more: Vec<Life>) {
        self.lives.extend(more);
        self.recount();
    }

    /// The lives that are too many, which are no longer in it.
    pub(crate) fn shrink(&mut self, replicas: u32) -> Vec<Life> {
        let keep = self.lives.len().min(replicas as usize);
        let surplus = self.lives.split_off(keep);
        self.recount();
        surplus
    }

    fn recount(&mut self) {
        self.deployment.replicas = u32::try_from(self.lives.len()).unwrap_or(u32::MAX);
    }

    pub(crate) fn serving(&self) -> Vec<ReplicaId> {
        self.lives.iter().filter_map(Life::serving).collect()
    }

    pub(crate) fn all_serve(&self) -> bool {
        self.lives.iter().all(|life| life.serving().is_some())
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.lives.iter().all(Life::is_at_rest)
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.lives.iter().all(Life::is_asleep)
    }

    /// Why it will not be whole by itself.
    pub(crate) fn defeat(&self) -> Option<EndCause> {
        self.lives.iter().find_map(Life::defeat)
    }

    /// When all have been frozen for as long as they may be.
    pub(crate) fn sleeps_at(&self) -> Option<Instant> {
        let patience = self.deployment.stop_when_frozen_for?;
        let unneeded: Option<Vec<Instant>> = self.lives.iter().map(Life::unneeded_since).collect();
        unneeded?.into_iter().max()?.checked_add(patience)
    }
}

/// An incarnation for each, in their order; none at all if there are not enough ports.
pub(crate) fn lease<'a>(
    turn: &mut Turn<'_>,
    lives: impl Iterator<Item = &'a Life>,
) -> Result<Vec<Incarnation>, Refusal> {
    let mut leased = vec![];
    for life in lives {
        match life.lease(turn, &BTreeSet::new()) {
            Some(incarnation) => leased.push(incarnation),
            None => {
                leased.into_iter().for_each(|it| turn.over(it));
                return Err(Refusal::NoPortFree);
            }
        }
    }
    Ok(leased)
}

/// Begins each as what was leased for it.
pub(crate) fn begin<'a>(
    turn: &mut Turn<'_>,
    lives: impl Iterator<Item = &'a mut Life>,
    leased: Vec<Incarnation>,
    standing: impl Fn(&Life) -> Standing,
) {
    for (life, incarnation) in lives.zip(leased) {
        let standing = standing(life);
        life.begin(turn, incarnation, standing);
    }
}
