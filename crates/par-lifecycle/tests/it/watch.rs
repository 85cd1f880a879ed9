//! Looks on while a world goes on, and says what must never be. Everything that it checks is about one step: what was
//! before, what came in, what came out, what is there now.

use std::collections::{BTreeMap, BTreeSet};

use par_lifecycle::{
    Action, Command, Event, FleetStatus, Note, Release, ReplicaStatus, Restored, Route, Routes,
    Targets, Wanted, What,
};
use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId};

use crate::world::{Input, Moment, Told, World};

pub(crate) struct Watch {
    /// As it was after the last step.
    routes: Routes,
    status: FleetStatus,
    changed: BTreeSet<AgentId>,
    /// The last that was told of each replica, and of each release as a whole.
    notes: BTreeMap<ReplicaId, What>,
    /// The steps of which something came.
    pub(crate) looks: usize,
    /// How often each kind of thing was told.
    pub(crate) told: BTreeMap<String, usize>,
    releases: BTreeMap<(AgentId, Release), What>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            routes: Routes::new(),
            status: FleetStatus::new(),
            changed: BTreeSet::new(),
            notes: BTreeMap::new(),
            looks: 0,
            told: BTreeMap::new(),
            releases: BTreeMap::new(),
        }
    }

    /// After every step.
    pub(crate) fn look(&mut self, moment: &Moment, world: &mut World) {
        self.looks += 1;
        let routes = world.fleet.routes();
        routes
            .iter()
            .for_each(|(id, it)| check_route(id, it, world));
        check_ends(moment, &routes);
        check_kills(moment, world);
        self.check_nobody_is_refused(moment, &routes, world);
        self.check_changed(moment, &routes, world);
        self.listen(moment);
        self.routes = routes;
        if world.closing {
            let mut actions = moment.outcome.iter().flatten();
            assert!(
                !actions.any(|it| matches!(it, Action::Spawn { .. })),
                "{moment:?}"
            );
        }
    }

    /// Now and then.
    pub(crate) fn look_around(&self, world: &World) {
        assert_eq!(
            world.fleet.status(),
            self.status,
            "an agent changed, and nobody was told"
        );
        let told: BTreeMap<ReplicaId, &AgentId> = world
            .living
            .iter()
            .map(|(id, it)| (*id, &it.agent))
            .collect();
        let incarnations = self
            .status
            .iter()
            .flat_map(|(agent, status)| status.incarnations().map(move |it| (it.replica, agent)));
        assert_eq!(incarnations.collect::<BTreeMap<_, _>>(), told);
        for (replica, agent) in told {
            assert_eq!(world.fleet.owner(replica), Some(agent));
        }
        for dead in world.lately_dead() {
            assert_eq!(world.fleet.owner(dead), None);
        }
        world.check_removed();
        let mut leaving = self.status.values().flat_map(|it| &it.leaving);
        assert!(
            leaving.all(|it| it.incarnation.is_some()),
            "who left is still there"
        );
        let waits = |it: &ReplicaStatus| it.restart_at.is_some();
        let awaited = self.status.values().any(|it| it.all_replicas().any(waits));
        let idle = world.living.is_empty() && !awaited;
        assert_eq!(world.fleet.is_idle(), idle);
    }

    /// What took calls of any kind goes on taking them, unless there is a reason.
    fn check_nobody_is_refused(&self, moment: &Moment, routes: &Routes, world: &World) {
        if let Input::Restored(_) = moment.input {
            return;
        }
        for (agent, before) in &self.routes {
            let now = routes.get(agent).map(grouped).unwrap_or_default();
            for replica in grouped(before) {
                if now.contains(&replica) {
                    continue;
                }
                let excused = self.may_lose(agent, replica, moment, world);
                assert!(excused, "{agent} lost {replica} by {moment:?}");
            }
        }
    }

    fn may_lose(
        &self,
        agent: &AgentId,
        replica: ReplicaId,
        moment: &Moment,
        world: &World,
    ) -> bool {
        let current = self.status[agent].desired.current;
        let status = world.fleet.agent(agent);
        let replaced = status.is_some_and(|it| it.desired.current != current);
        let serving = self.status[agent]
            .replicas
            .iter()
            .filter_map(|it| it.incarnation);
        let of_canary = !serving.into_iter().any(|it| it.replica == replica);
        let desired = world.fleet.agent(agent).map(|it| it.desired);
        let canary_leaves = of_canary && desired.is_none_or(|it| it.canary.is_none());
        match &moment.input {
            Input::Command(Command::StopAll | Command::KillAll) => true,
            Input::Command(
                Command::Stop(id)
                | Command::Restart(id)
                | Command::Remove(id)
                | Command::Scale(id, _),
            ) => id == agent,
            Input::Event(Event::Exited(id, _) | Event::Silent { replica: id, .. }) => {
                *id == replica || canary_leaves || replaced
            }
            Input::Event(Event::Tick) => {
                let process = &world.living[&replica];
                process.frozen_since.is_some() && !process.sessions || canary_leaves || replaced
            }
            _ => canary_leaves || replaced,
        }
    }

    /// Whoever's status or route is another was named, and what is desired is changed by those only who may.
    fn check_changed(&mut self, moment: &Moment, routes: &Routes, world: &mut World) {
        if let Input::Restored(agents) = &moment.input {
            check_restored(agents, world);
            self.status.clear();
        }
        let changed = world.fleet.take_changed();
        for agent in &changed {
            match world.fleet.agent(agent) {
                Some(status) => {
                    let before = self.status.insert(agent.clone(), status);
                    let after = self.status[agent].desired;
                    if before.is_some_and(|it| it.desired != after) {
                        assert!(may_change_desire(agent, moment), "{agent}: {moment:?}");
                    }
                }
                None => drop(self.status.remove(agent)),
            }
        }
        let others = |routes: &Routes| -> Routes {
            let others = routes.iter().filter(|(id, _)| !changed.contains(*id));
            others.map(|(id, it)| (id.clone(), it.clone())).collect()
        };
        if !matches!(moment.input, Input::Restored(_)) {
            assert_eq!(others(&self.routes), others(routes), "{moment:?}");
        }
        self.changed = changed;
    }

    fn listen(&mut self, moment: &Moment) {
        for action in moment.outcome.iter().flatten() {
            let Action::Tell(note) = action else {
                continue;
            };
            let what = format!("{:?}", note.what);
            let kind = what.split([' ', '(']).next().unwrap_or_default().to_owned();
            *self.told.entry(kind).or_default() += 1;
            match note.replica {
                Some(replica) => {
                    let before = self.notes.insert(replica, note.what.clone());
                    let follows = replica_follows(before.as_ref(), &note.what);
                    assert!(follows, "{note:?} after {before:?}");
                }
                None => self.listen_to_release(note),
            }
        }
        if self.notes.len() > 512 {
            self.notes.pop_first();
        }
    }

    fn listen_to_release(&mut self, note: &Note) {
        if let What::Scaled { .. } | What::Waking | What::Failed(EndCause::NoPortFree) = note.what {
            return;
        }
        let release = (note.agent.clone(), note.release);
        let before = self.releases.insert(release, note.what.clone());
        let follows = release_follows(before.as_ref(), &note.what);
        assert!(follows, "{note:?} after {before:?}");
    }
}

/// Who takes calls of any kind.
fn grouped(route: &Route) -> Vec<ReplicaId> {
    match route {
        Route::Ready(targets) => targets
            .groups
            .iter()
            .flat_map(|(_, it)| it)
            .copied()
            .collect(),
        _ => vec![],
    }
}

fn may_change_desire(agent: &AgentId, moment: &Moment) -> bool {
    match &moment.input {
        Input::Command(Command::StopAll | Command::KillAll) => false,
        Input::Command(_) => moment.outcome.is_ok(),
        Input::Restored(_) => false,
        Input::Event(_) => moment.outcome.iter().flatten().any(|action| {
            let Action::Tell(note) = action else {
                return false;
            };
            let decides = matches!(
                note.what,
                What::ReleaseLive | What::ReleaseFailed(_) | What::CanaryStarted { .. }
            );
            note.agent == *agent && decides
        }),
    }
}

fn check_route(agent: &AgentId, route: &Route, world: &World) {
    let Route::Ready(targets) = route else {
        return;
    };
    let shares: u32 = targets
        .groups
        .iter()
        .map(|(share, _)| u32::from(*share))
        .sum();
    assert_eq!(shares, 1000, "{targets:?}");
    for (share, replicas) in &targets.groups {
        assert!(*share > 0 && !replicas.is_empty(), "{targets:?}");
        let releases: BTreeSet<Release> =
            replicas.iter().map(|it| world.living[it].release).collect();
        assert_eq!(releases.len(), 1, "{targets:?}");
    }
    check_targets(agent, targets, world);
}

fn check_targets(agent: &AgentId, targets: &Targets, world: &World) {
    let mut seen = BTreeSet::new();
    for replica in targets.replicas() {
        assert!(
            seen.insert(replica),
            "{replica} is there twice: {targets:?}"
        );
        let process = world.living.get(&replica);
        let process = process.expect("routes lead to the living");
        assert_eq!(process.agent, *agent);
        assert!(process.serves() && !process.silent, "{process:?}");
    }
}

/// Nobody is told to end while calls are still sent there.
fn check_ends(moment: &Moment, routes: &Routes) {
    for action in moment.outcome.iter().flatten() {
        let (Action::Drain { replica, .. } | Action::Terminate(replica) | Action::Kill(replica)) =
            action
        else {
            continue;
        };
        let routed = |route: &Route| match route {
            Route::Ready(targets) => targets.replicas().any(|it| it == *replica),
            _ => false,
        };
        assert!(!routes.values().any(routed), "{action:?} in {routes:?}");
    }
}

/// Those who would not hear anything else are killed at once.
fn check_kills(moment: &Moment, world: &World) {
    match &moment.input {
        Input::Command(Command::KillAll) => {
            assert!(world.living.values().all(|it| it.told == Told::Kill));
        }
        Input::Event(Event::Silent { replica, .. }) => {
            let process = world.living.get(replica);
            assert!(
                process.is_none_or(|it| it.told == Told::Kill),
                "{process:?}"
            );
        }
        _ => {}
    }
}

/// What lives is what was desired, no more and no less: all that is missing begins, all that is too much ends.
fn check_restored(agents: &BTreeMap<AgentId, Restored>, world: &World) {
    // A canary is let go whole when a port for a part of it is missing.
    let whole = |agent: &AgentId| {
        world
            .fleet
            .agent(agent)
            .is_some_and(|it| it.failed.is_none())
    };
    for process in world.living.values().filter(|it| whole(&it.agent)) {
        assert_eq!(process.surplus, process.told == Told::Drain, "{process:?}");
    }
    let known = world.fleet.status();
    assert!(known.keys().eq(agents.keys()));
    for (agent, status) in known {
        if whole(&agent) {
            assert_eq!(status.desired, agents[&agent].desired);
        }
        let up = status.desired.wanted == Wanted::Up;
        let asleep = status.route == Route::Asleep;
        let canary = status.incoming.iter().flat_map(|it| &it.replicas);
        let lives = status
            .replicas
            .iter()
            .chain(canary)
            .filter(|it| it.incarnation.is_some());
        let wanted =
            status.replicas.len() + status.incoming.as_ref().map_or(0, |it| it.replicas.len());
        let expected = if up && !asleep { wanted } else { 0 };
        let failed = status
            .all_replicas()
            .any(|it| it.error == Some(EndCause::NoPortFree));
        assert!(failed || lives.count() == expected, "{agent}: {status:?}");
        assert_eq!(status.replicas.len(), status.desired.replicas as usize);
    }
}

/// What may be told of a replica after what was told of it before.
fn replica_follows(before: Option<&What>, now: &What) -> bool {
    use What as W;
    let Some(before) = before else {
        // The first of those that an earlier supervisor left may be that they are let go, or that a port is missing.
        return matches!(now, W::Starting | W::Adopted | W::Draining | W::Failed(_));
    };
    let serves = matches!(before, W::Ready | W::Adopted | W::Frozen | W::Thawed);
    let ends = serves || matches!(before, W::Retiring | W::Draining | W::Starting);
    let rests = matches!(before, W::Restarting { .. } | W::Slept);
    match now {
        W::Starting => false,
        W::Ready => *before == W::Starting,
        // Also what was let go by a supervisor that did not live to see it.
        W::Adopted => serves || *before == W::Retiring,
        W::Frozen => serves && *before != W::Frozen,
        W::Thawed => *before == W::Frozen,
        W::Retiring => serves,
        W::Draining => serves || *before == W::Retiring,
        W::Stopped => ends || rests,
        W::Slept => *before == W::Draining,
        W::Exited(_) | W::Crashed(_) => ends,
        W::Failed(cause) => ends || rests && *cause == EndCause::NoPortFree,
        W::Restarting { .. } => matches!(before, W::Exited(_)),
        _ => false,
    }
}

fn release_follows(before: Option<&What>, now: &What) -> bool {
    use What as W;
    match now {
        W::ReleaseStarted => before.is_none(),
        W::CanaryStarted { .. } => before == Some(&W::ReleaseStarted),
        W::Promoted => matches!(before, Some(W::CanaryStarted { .. } | W::Promoted)),
        // The first release of an agent begins beside none.
        W::ReleaseLive => matches!(before, None | Some(W::ReleaseStarted | W::Promoted)),
        W::ReleaseFailed(_) => matches!(
            before,
            Some(W::ReleaseStarted | W::CanaryStarted { .. } | W::Promoted)
        ),
        _ => false,
    }
}
