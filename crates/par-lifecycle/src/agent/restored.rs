//! An agent as an earlier supervisor left it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use par_model::AgentId;

use super::{Agent, Incoming, Kind};
use crate::desired::{Canary, Wanted};
use crate::group::Group;
use crate::life::{Life, Standing};
use crate::note::What;
use crate::turn::Turn;
use crate::{Deployment, Incarnation, Restored, Survivor};

type Living = BTreeMap<u32, Survivor>;

impl Restored {
    /// The ports that it holds, and those that it comes back to.
    pub(crate) fn claim(&self, agent: &AgentId, turn: &mut Turn<'_>) {
        for (slot, port) in &self.homes {
            turn.remember_home(agent, *slot, *port);
        }
        for survivor in &self.living {
            turn.adopt(agent, survivor.incarnation);
        }
    }
}

impl Agent {
    /// What it holds has been claimed.
    pub(crate) fn restored(id: AgentId, turn: &mut Turn<'_>, restored: Restored) -> Self {
        let Restored {
            desired,
            deployment,
            canary,
            proven,
            living,
            ..
        } = restored;
        let deployment = Deployment {
            replicas: desired.replicas.max(1),
            ..deployment
        };
        let mut agent = Self::new(id, deployment);
        agent.desired.wanted = desired.wanted;
        let mut living = Unclaimed(living);
        if desired.wanted == Wanted::Up {
            let canary = desired.canary.zip(canary);
            let adopted = living.claim(&deployment);
            let sleeps = deployment.stop_when_frozen_for.is_some() && canary.is_none();
            let otherwise = match proven {
                true if sleeps && adopted.is_empty() => Else::Sleep,
                true => Else::Start(Standing::Proven),
                false => Else::Start(Standing::New),
            };
            agent.current = agent.group(turn, deployment, adopted, otherwise);
            if let Some((wish, deployment)) = canary {
                agent.restore_canary(turn, wish, deployment, &mut living);
            }
        }
        agent.current.live = proven;
        for survivor in living.0 {
            let mut life = Life::adopted(agent.id.clone(), deployment, survivor);
            // What was finishing its calls may go on with that.
            match survivor.serves && desired.wanted == Wanted::Up {
                true => life.retire(turn),
                false => life.remove(turn),
            }
            agent.leaving.push(life);
        }
        agent
    }

    fn restore_canary(
        &mut self,
        turn: &mut Turn<'_>,
        wish: Canary,
        deployment: Deployment,
        living: &mut Unclaimed,
    ) {
        let permille = wish.permille;
        let deployment = self.with_share(deployment, permille);
        let adopted = living.claim(&deployment);
        let mut group = self.group(turn, deployment, adopted, Else::Start(Standing::Proven));
        group.live = true;
        self.desired.canary = Some(wish);
        let kind = Kind::Canary { permille };
        self.incoming = Some(Incoming { group, kind });
    }

    /// Those that live go on, and the others do as `otherwise` says.
    fn group(
        &self,
        turn: &mut Turn<'_>,
        deployment: Deployment,
        mut adopted: Living,
        otherwise: Else,
    ) -> Group {
        let mut group = Group::new(&self.id, deployment);
        for life in &mut group.lives {
            match adopted.remove(&life.slot) {
                Some(survivor) => {
                    *life = Life::adopted(self.id.clone(), deployment, survivor);
                    life.tell(turn, What::Adopted);
                }
                None => match otherwise {
                    Else::Sleep => life.lay_down(),
                    Else::Start(standing) => life.resume(turn, standing),
                },
            }
        }
        group
    }
}

/// What becomes of replicas that do not live.
#[derive(Clone, Copy)]
enum Else {
    Sleep,
    Start(Standing),
}

/// Incarnations that go on and have no place yet.
struct Unclaimed(Vec<Survivor>);

impl Unclaimed {
    /// Those of one release that have a slot in it; of two the later one.
    fn claim(&mut self, deployment: &Deployment) -> Living {
        let fits =
            |it: &Incarnation| it.release == deployment.release && it.slot < deployment.replicas;
        let mut claimed = Living::new();
        self.0.sort_by_key(|it| Reverse(it.incarnation.replica));
        self.0.retain(|survivor| {
            let incarnation = &survivor.incarnation;
            let free = !claimed.contains_key(&incarnation.slot);
            let takes = fits(incarnation) && free && survivor.serves;
            if takes {
                claimed.insert(incarnation.slot, *survivor);
            }
            !takes
        });
        claimed
    }
}
