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
        let life = |slot| Life::new(agent.clone(), slot, deployment);
        Self {
            deployment,
            lives: (0..deployment.replicas.max(1)).map(life).collect(),
            live: false,
        }
    }

    pub(crate) fn release(&self) -> Release {
        self.deployment.release
    }

    /// Begins all that may; nothing if there are not enough ports.
    pub(crate) fn begin(
        &mut self,
        turn: &mut Turn<'_>,
        standing: impl Fn(&Life) -> Standing,
    ) -> Result<(), Refusal> {
        let beginners = self.lives.iter_mut().filter(|life| life.may_begin());
        Self::begin_all(turn, beginners, standing)
    }

    /// Begins these; nothing if there are not enough ports.
    pub(crate) fn begin_all<'a>(
        turn: &mut Turn<'_>,
        lives: impl Iterator<Item = &'a mut Life>,
        standing: impl Fn(&Life) -> Standing,
    ) -> Result<(), Refusal> {
        let lives: Vec<&mut Life> = lives.collect();
        let incarnations = incarnations(turn, &lives).ok_or(Refusal::NoPortFree)?;
        for (life, incarnation) in lives.into_iter().zip(incarnations) {
            let standing = standing(life);
            life.begin(turn, incarnation, standing);
        }
        Ok(())
    }

    /// More lives, at rest.
    pub(crate) fn grow(&mut self, agent: &AgentId, replicas: u32) {
        self.deployment.replicas = replicas;
        for slot in u32::try_from(self.lives.len()).unwrap_or(u32::MAX)..replicas {
            let life = Life::new(agent.clone(), slot, self.deployment);
            self.lives.push(life);
        }
    }

    /// The lives that are too many, which are no longer in it.
    pub(crate) fn shrink(&mut self, replicas: u32) -> Vec<Life> {
        self.deployment.replicas = replicas;
        let keep = self.lives.len().min(replicas as usize);
        self.lives.split_off(keep)
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
        let frozen: Option<Vec<Instant>> = self.lives.iter().map(Life::frozen_since).collect();
        frozen?.into_iter().max()?.checked_add(patience)
    }
}

/// One for each, or none at all.
fn incarnations(turn: &mut Turn<'_>, lives: &[&mut Life]) -> Option<Vec<Incarnation>> {
    let mut found = vec![];
    for life in lives {
        let (agent, release) = (&life.agent, life.deployment.release);
        match turn.incarnation(agent, life.slot, release, &BTreeSet::new()) {
            Some(incarnation) => found.push(incarnation),
            None => {
                found.into_iter().for_each(|it| turn.over(it));
                return None;
            }
        }
    }
    Some(found)
}
