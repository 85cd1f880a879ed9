//! What has to be written down: what is wanted of agents, what became of releases, which workers live. Collects it as
//! changes of the state file.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use par_lifecycle::{Desired, Fleet, Incarnation, Note, Refusal, Release, Wanted, What};
use par_model::{AgentId, ReplicaId};
use par_sandbox::Birth;
use par_store::{Canary, Change, NewRelease, Outcome, Wish};

use crate::catalog::Made;
use crate::events::now_ms;
use crate::message::Saved;

#[derive(Default)]
pub(crate) struct Wishes {
    /// As it was handed over last.
    kept: HashMap<AgentId, Wish>,
    changes: Vec<Change>,
    born: Vec<ReplicaId>,
    /// Workers that are written down.
    known: BTreeSet<ReplicaId>,
    current: BTreeMap<AgentId, Release>,
    /// Agents that have gone from the file, or are about to, and still end.
    removing: BTreeSet<AgentId>,
    /// What could not be written, each for itself from now on.
    failed: Vec<(Change, Option<ReplicaId>)>,
}

impl Wishes {
    /// What the file says already.
    pub(crate) fn begin_with(
        &mut self,
        agents: impl IntoIterator<Item = (AgentId, Wish)>,
        workers: impl IntoIterator<Item = ReplicaId>,
    ) {
        for (agent, wish) in agents {
            self.current.insert(agent.clone(), Release(wish.current));
            self.kept.insert(agent, wish);
        }
        self.known.extend(workers);
    }

    /// Finds what is wanted otherwise than it was.
    pub(crate) fn look(&mut self, fleet: &Fleet, changed: &BTreeSet<AgentId>) {
        for agent in changed {
            let Some(status) = fleet.agent(agent) else {
                self.remove(agent);
                self.removing.remove(agent);
                continue;
            };
            if self.removing.contains(agent) {
                continue;
            }
            let before = self.kept.get(agent);
            let mut homes = before.map_or_else(BTreeMap::new, |wish| wish.homes.clone());
            let living = status.replicas.iter().filter_map(|it| it.incarnation);
            homes.extend(living.map(|it| (it.slot, it.port)));
            homes.retain(|slot, _| *slot < status.desired.replicas);
            let wish = wish_of(&status.desired, homes);
            if before != Some(&wish) {
                self.kept.insert(agent.clone(), wish.clone());
                self.changes.push(Change::SetWish(agent.clone(), wish));
            }
        }
    }

    /// It is not wanted any more: whatever happens while it ends, nobody shall start it again.
    pub(crate) fn remove(&mut self, agent: &AgentId) {
        if self.kept.remove(agent).is_some() {
            self.current.remove(agent);
            self.removing.insert(agent.clone());
            self.changes.push(Change::RemoveAgent(agent.clone()));
        }
    }

    /// What could not be written, and is to be tried again.
    pub(crate) fn put_back(&mut self, changes: Vec<Change>, born: &[ReplicaId]) {
        let with_birth = |change: Change| {
            let replica = match &change {
                Change::AddIncarnation(kept) => Some(kept.replica),
                _ => None,
            };
            let born = replica.filter(|replica| born.contains(replica));
            (change, born)
        };
        self.failed.extend(changes.into_iter().map(with_birth));
    }

    /// Each for itself: one that cannot be hinders no other.
    pub(crate) fn take_failed(&mut self) -> Vec<(Vec<Change>, Saved)> {
        let failed = std::mem::take(&mut self.failed).into_iter();
        failed
            .map(|(change, born)| {
                let born = born.into_iter().collect();
                (vec![change], Saved { born })
            })
            .collect()
    }

    pub(crate) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// What became of a release.
    pub(crate) fn hear(&mut self, note: &Note) {
        let outcome = match &note.what {
            What::ReleaseLive => {
                let agent = note.agent.clone();
                let before = self.current.insert(agent.clone(), note.release);
                if let Some(before) = before.filter(|before| *before != note.release) {
                    self.outcome(agent, before, Outcome::Superseded);
                }
                Outcome::Live
            }
            What::CanaryStarted { .. } => Outcome::Live,
            What::ReleaseFailed(cause) => Outcome::Failed {
                reason: cause.to_string(),
            },
            _ => return,
        };
        self.outcome(note.agent.clone(), note.release, outcome);
    }

    /// A release that was written down and may not begin. `alone`: nothing else is known of its agent.
    pub(crate) fn refused(
        &mut self,
        agent: &AgentId,
        release: Release,
        refusal: &Refusal,
        alone: bool,
    ) {
        if alone {
            return self.changes.push(Change::RemoveAgent(agent.clone()));
        }
        let reason = refusal.to_string();
        self.outcome(agent.clone(), release, Outcome::Failed { reason });
    }

    pub(crate) fn add(&mut self, change: Change) {
        self.changes.push(change);
    }

    fn outcome(&mut self, agent: AgentId, release: Release, outcome: Outcome) {
        let change = Change::SetOutcome(agent, release.0, outcome);
        self.changes.push(change);
    }

    pub(crate) fn born(
        &mut self,
        agent: &AgentId,
        incarnation: Incarnation,
        pid: u32,
        birth: Birth,
        secret: String,
    ) {
        let replica = incarnation.replica;
        self.known.insert(replica);
        self.born.push(replica);
        self.changes
            .push(Change::AddIncarnation(par_store::Incarnation {
                replica,
                agent: agent.clone(),
                slot: incarnation.slot,
                release: incarnation.release.0,
                port: incarnation.port,
                grpc_port: incarnation.grpc_port,
                pid,
                pid_start_time: birth.ticks,
                boot_id: birth.boot,
                secret,
                made_at_ms: now_ms(),
            }));
    }

    pub(crate) fn over(&mut self, replica: ReplicaId) {
        if self.known.remove(&replica) {
            self.changes.push(Change::RemoveIncarnation(replica));
        }
    }

    /// Everything that has to be written now; none if there is nothing.
    pub(crate) fn take(&mut self) -> Option<(Vec<Change>, Saved)> {
        if self.changes.is_empty() {
            return None;
        }
        let born = std::mem::take(&mut self.born);
        Some((std::mem::take(&mut self.changes), Saved { born }))
    }
}

fn wish_of(desired: &Desired, homes: BTreeMap<u32, u16>) -> Wish {
    Wish {
        wanted: match desired.wanted {
            Wanted::Up => par_store::Wanted::Up,
            Wanted::Stopped => par_store::Wanted::Stopped,
        },
        replicas: desired.replicas,
        current: desired.current.0,
        canary: desired.canary.map(|canary| Canary {
            release: canary.release.0,
            permille: canary.permille,
        }),
        homes,
    }
}

/// What is wanted of an agent that is new.
pub(crate) fn first_wish(release: Release, made: &Made) -> Change {
    let deployment = made.deployment(release, 1);
    let desired = Desired {
        wanted: Wanted::Up,
        replicas: deployment.replicas,
        current: release,
        canary: None,
    };
    Change::SetWish(made.agent.clone(), wish_of(&desired, BTreeMap::new()))
}

pub(crate) fn new_release(release: Release, made: &Made) -> Change {
    let kept = NewRelease {
        number: release.0,
        package_id: made.package_id.clone(),
        digest: made.digest.clone(),
        package: made.package.clone(),
        env: made.env.clone(),
        secrets: made.secrets.clone(),
        options: made.options.clone(),
        created_at_ms: now_ms(),
        note: made.note.clone(),
    };
    Change::AddRelease(made.agent.clone(), Box::new(kept))
}
