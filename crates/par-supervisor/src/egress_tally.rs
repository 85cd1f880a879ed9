//! What went through the proxies of an agent's workers, those that have ended included. Workers tell what they have counted
//! since they began; here it becomes numbers that only grow.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use par_model::egress::EgressFigures;
use par_model::{AgentId, ReplicaId};

#[derive(Default)]
pub(crate) struct EgressTally(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    agents: BTreeMap<AgentId, EgressFigures>,
    /// What each worker said last.
    said: HashMap<ReplicaId, EgressFigures>,
}

impl EgressTally {
    pub(crate) fn hear(&self, agent: &AgentId, replica: ReplicaId, figures: EgressFigures) {
        let mut counted = self.lock();
        let before = counted.said.insert(replica, figures.clone());
        let news = figures.since(&before.unwrap_or_default());
        counted.agents.entry(agent.clone()).or_default().add(&news);
    }

    pub(crate) fn over(&self, replica: ReplicaId) {
        self.lock().said.remove(&replica);
    }

    pub(crate) fn forget(&self, agent: &AgentId) {
        self.lock().agents.remove(agent);
    }

    pub(crate) fn of(&self, agent: &AgentId) -> Option<EgressFigures> {
        self.lock().agents.get(agent).cloned()
    }

    pub(crate) fn all(&self) -> BTreeMap<AgentId, EgressFigures> {
        self.lock().agents.clone()
    }

    /// Held for a few additions, by workers' reports and by who asks: never by a call.
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_workers_counted_stays_counted() {
        let tally = EgressTally::default();
        let agent: AgentId = "a".parse().expect("an id");
        let figures = |connections| EgressFigures {
            connections,
            ..EgressFigures::default()
        };
        tally.hear(&agent, ReplicaId(1), figures(3));
        tally.hear(&agent, ReplicaId(1), figures(5));
        tally.over(ReplicaId(1));
        tally.hear(&agent, ReplicaId(2), figures(1));
        assert_eq!(tally.of(&agent), Some(figures(6)));
    }
}
