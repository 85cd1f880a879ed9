//! The supervisor is killed, and the next one takes over what it left.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use par_lifecycle::{AgentStatus, Fleet, Incarnation, Restored, Settings, Survivor, Wanted};
use par_model::{AgentId, ReplicaId};

use crate::world::{Input, Moment, Process, World};

impl World {
    /// Of the workers, those go on that serve and whom chance spares.
    pub(crate) fn rebirth(&mut self, fates: u64) -> Moment {
        let spared = |id: &ReplicaId| fates >> (id.0 % 8) & 1 == 0;
        let removed = self.removed.clone();
        let (living, dead) = mem::take(&mut self.living)
            .into_iter()
            .partition(|(id, it)| it.serves() && spared(id) && !removed.contains(&it.agent));
        self.living = living;
        self.dead.extend(BTreeMap::into_keys(dead));
        let status = self.fleet.status();
        let kept = status.iter().filter(|(agent, _)| !removed.contains(*agent));
        let agents = kept.map(|(agent, status)| (agent.clone(), self.left(agent, status)));
        let agents: BTreeMap<AgentId, Restored> = agents.collect();
        self.removed.clear();
        self.closing = false;
        self.fleet = Fleet::new(Settings {
            first_replica: self.highest + 1,
            ..self.settings.clone()
        });
        for process in self.living.values_mut() {
            process.frozen_since = None;
            process.sessions = false;
        }
        self.feed(Input::Restored(agents))
    }

    /// The latest of each slot that is desired may stay.
    pub(crate) fn let_go(&mut self, agent: &AgentId, restored: &Restored) {
        let desired = restored.desired;
        let mut places = BTreeSet::new();
        if desired.wanted == Wanted::Up {
            places.extend((0..desired.replicas).map(|slot| (desired.current, slot)));
            if let Some(canary) = desired.canary {
                let share = desired.replicas * u32::from(canary.permille) / 1000;
                places.extend((0..share.max(1)).map(|slot| (canary.release, slot)));
            }
        }
        let processes = self.living.values_mut().rev();
        for process in processes.filter(|it| it.agent == *agent) {
            process.surplus = !places.remove(&(process.release, process.slot));
        }
    }

    fn left(&self, agent: &AgentId, status: &AgentStatus) -> Restored {
        let desired = status.desired;
        let deployment = |release| self.releases[&(agent.clone(), release)];
        let incarnations = status.replicas.iter().filter_map(|it| it.incarnation);
        Restored {
            desired,
            deployment: deployment(desired.current),
            canary: desired.canary.map(|it| deployment(it.release)),
            proven: status.live,
            living: self.survivors(agent),
            homes: incarnations.map(|it| (it.slot, it.port)).collect(),
        }
    }

    fn survivors(&self, agent: &AgentId) -> Vec<Survivor> {
        let living = self.living.iter().filter(|(_, it)| it.agent == *agent);
        let incarnation = |(id, it): (&ReplicaId, &Process)| {
            let incarnation = Incarnation {
                replica: *id,
                slot: it.slot,
                release: it.release,
                port: it.port,
                grpc_port: it.grpc_port,
                pid: Some(1),
            };
            it.ready_since.map(|since| Survivor {
                incarnation,
                since,
                restarts: 0,
                sessions: false,
                serves: true,
            })
        };
        living.filter_map(incarnation).collect()
    }
}
