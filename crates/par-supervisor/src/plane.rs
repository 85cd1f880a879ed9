//! Brings up what decides and performs: the state file is read, workers of an earlier life are found, and the driver goes
//! on from there.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use par_lifecycle::{Action, Fleet, Release, Restored};
use par_model::AgentId;
use par_store::{Change, KeptAgent, KeptAllowance, Outcome, Store, StoreError};
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::adoption::{self, Found};
use crate::allowances::Allowances;
use crate::catalog::{Catalog, Made};
use crate::driver::{Driver, Remains};
use crate::effects::{Effects, Ground, Place};
use crate::events::EventLog;
use crate::keeper::Keeper;
use crate::message::Message;
use crate::restore;
use crate::wishes::Wishes;

/// Ids of incarnations of one life of the supervisor; the next one begins above them.
const REPLICAS_OF_A_LIFE: u64 = 1_000_000_000;

pub(crate) fn first_replica(store: &Store) -> u64 {
    store.life() * REPLICAS_OF_A_LIFE + 1
}

/// A driver that goes on from what was kept.
pub(crate) async fn restore(
    ground: Rc<Ground>,
    settings: par_lifecycle::Settings,
    keeper: Keeper,
    events: Arc<EventLog>,
    messages: mpsc::Sender<Message>,
    remains: Remains,
    (agents, kept_workers, kept_allowances): Left,
) -> Driver {
    let workers = kept_workers
        .iter()
        .map(|kept| kept.replica)
        .collect::<Vec<_>>();
    let is_wanted = |kept: &par_store::Incarnation| {
        let agent = agents.iter().find(|it| it.agent == kept.agent);
        agent.is_some_and(|agent| agent.release(kept.release).is_some())
    };
    let found = adoption::find_all(kept_workers, &ground.state, ground.own_ports, is_wanted).await;
    if let Err(error) = ground.state.clear_sockets(&adoption::replicas(&found)) {
        warn!(%error, "failed to remove sockets of an earlier supervisor");
    }
    let kept_groups: Vec<u64> = found.iter().map(|it| it.kept.replica.0).collect();
    ground.groups.sweep(&kept_groups).await;
    for (agent, kept) in &kept_allowances {
        for name in &kept.damaged {
            error!(%agent, name, "a secret is not as it was sealed: set it again");
        }
    }
    let own_ports = ground.allowances.borrow().own_ports();
    let allowances = Allowances::new(kept_allowances, own_ports);
    ground.allowances.send_replace(Arc::new(allowances));
    let mut wishes = Wishes::default();
    wishes.begin_with(
        agents
            .iter()
            .map(|kept| (kept.agent.clone(), kept.wish.clone())),
        workers.iter().copied(),
    );
    workers
        .iter()
        .filter(|replica| !found.iter().any(|it| it.kept.replica == **replica))
        .for_each(|replica| wishes.over(*replica));
    let mut driver = Driver {
        fleet: Fleet::new(settings),
        catalog: Catalog::default(),
        effects: Effects::new(ground),
        publisher: remains.publisher,
        wishes,
        keeper,
        events,
        mailbox: remains.mailbox,
        wakes: remains.wakes,
        messages,
        changed: Default::default(),
        unsaved: Default::default(),
        retry_at: None,
    };
    driver.effects.sweep();
    driver.take_up(&agents, found);
    driver
}

/// What an earlier supervisor wanted, and which workers it had.
type Left = (
    Vec<KeptAgent>,
    Vec<par_store::Incarnation>,
    BTreeMap<AgentId, KeptAllowance>,
);

pub(crate) async fn read(store: Arc<Store>) -> Result<Left, StoreError> {
    let read = move || Ok((store.agents()?, store.incarnations()?, store.allowances()?));
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

impl Driver {
    /// Agents as they were left, with those of their workers that go on.
    fn take_up(&mut self, agents: &[KeptAgent], found: Vec<Found>) {
        let mut by_agent: BTreeMap<AgentId, Vec<Found>> = BTreeMap::new();
        for found in found {
            let agent = found.kept.agent.clone();
            by_agent.entry(agent).or_default().push(found);
        }
        let mut all = vec![];
        let mut living = vec![];
        for kept in agents {
            let own = by_agent.remove(&kept.agent).unwrap_or_default();
            if let Some(restored) = self.put_together(kept, &own) {
                all.push((kept.agent.clone(), restored));
            }
            living.extend(own);
        }
        let actions = self.fleet.restore(Instant::now(), all);
        self.adopt(living);
        self.perform(actions);
        agents.iter().for_each(|kept| self.settle_outcomes(kept));
        self.keep_now();
    }

    /// `None` when its release is gone.
    fn put_together(&mut self, kept: &KeptAgent, living: &[Found]) -> Option<Restored> {
        let agent = &kept.agent;
        let made: Vec<(Release, Made)> = kept
            .releases
            .iter()
            .filter(|release| is_in_use(kept, release.number, living))
            .map(|release| (Release(release.number), restore::made(agent, release)))
            .collect();
        let restored = restore::restored(kept, &made, living);
        if restored.is_none() {
            error!(%agent, release = kept.wish.current, "an agent cannot be restored: its release is gone");
        }
        self.catalog.begin_after(agent, Release(kept.last_number));
        for (release, made) in made {
            self.catalog.add(release, Arc::new(made));
        }
        for found in living {
            let socket = self.effects.socket_of(found.kept.replica);
            self.publisher.begin(agent, found.kept.replica, socket);
        }
        restored
    }

    /// Before the fleet's actions: some of these may be told to end at once.
    fn adopt(&mut self, living: Vec<Found>) {
        for found in living {
            let agent = &found.kept.agent;
            let replica = found.kept.replica;
            let release = Release(found.kept.release);
            let made = self.catalog.get(agent, release);
            let made = Arc::clone(made.expect("those of other releases were ended"));
            self.publisher
                .has_sessions(replica, &found.resumed.session_ids);
            self.publisher.told(replica).agent_pid = found.resumed.agent_pid;
            let (quiet, any) = (found.resumed.quiet, found.resumed.sessions);
            let place = Place {
                replica,
                port: found.kept.port,
                grpc_port: found.kept.grpc_port,
                restarts: found.resumed.restarts,
            };
            let understands = found.resumed.egress;
            let agent = agent.clone();
            self.effects.adopt(place, made, found);
            self.effects.keep(replica);
            // It may have changed since the worker was told last.
            if understands {
                self.effects.tell_egress(&agent, replica);
            }
            self.resume(replica, quiet, any);
        }
    }

    fn resume(&mut self, replica: par_model::ReplicaId, quiet: bool, any: bool) {
        use par_lifecycle::Event;
        let now = Instant::now();
        let mut actions: Vec<Action> = vec![];
        if any {
            actions.extend(self.fleet.handle(now, Event::Sessions { replica, any }));
        }
        if quiet {
            actions.extend(self.fleet.handle(now, Event::Quiet(replica)));
        }
        self.perform(actions);
    }

    /// A release that was coming in when the supervisor ended has not come.
    fn settle_outcomes(&mut self, kept: &KeptAgent) {
        let canary = kept.wish.canary.map(|canary| canary.release);
        for release in &kept.releases {
            let wanted = release.number == kept.wish.current || Some(release.number) == canary;
            if release.outcome == Outcome::Pending && !wanted {
                let reason = "the supervisor ended before it took the calls".to_owned();
                let outcome = Outcome::Failed { reason };
                let agent = kept.agent.clone();
                self.wishes
                    .add(Change::SetOutcome(agent, release.number, outcome));
            }
        }
    }
}

fn is_in_use(kept: &KeptAgent, number: u32, living: &[Found]) -> bool {
    let canary = kept.wish.canary.map(|canary| canary.release);
    number == kept.wish.current
        || Some(number) == canary
        || living.iter().any(|found| found.kept.release == number)
}
