//! What holds in every world, whatever happens in it.

use std::collections::BTreeSet;

use par_lifecycle::{Action, Beside, Command, Deployment, Event, Refusal, Route, Settings};
use par_model::{AgentId, ReplicaId, RestartMode};
use proptest::prelude::*;

use crate::ledger::Ledger;
use crate::stage::{self, deployment};
use crate::step::{AGENTS, Ask, MOST, News, Step, any_news, any_step, any_steps, nth_agent};
use crate::watch::Watch;
use crate::world::{Input, Process, World};

/// Deadlines that can come before all is quiet. An agent has two releases of several replicas, and replicas of earlier
/// ones; each of them retires, drains, is terminated, killed, and restarted some times.
const SILENT_TICKS: usize = 100 * AGENTS * MOST;

/// Room for everybody, so that the ledger needs to know nothing of ports.
pub(crate) fn roomy() -> Settings {
    Settings {
        ports: 8001..=8999,
        ..stage::settings()
    }
}

/// Fewer ports than agents want, and gRPC ports that are the HTTP ports of others.
pub(crate) fn crowded() -> Settings {
    Settings {
        ports: 10..=25,
        grpc_offset: 2,
        ..stage::settings()
    }
}

/// Those that still live die when they are killed, and otherwise nothing happens but time.
fn fall_silent(world: &mut World) {
    for _ in 0..SILENT_TICKS {
        world.bury_the_killed();
        if world.step(Step::WaitForDeadline).is_none() {
            return;
        }
    }
}

fn spawns(actions: &[Action]) -> usize {
    stage::spawns(actions).len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_world_with_room_is_as_the_ledger_says(steps in any_steps()) {
        let mut world = World::new(roomy());
        let mut watch = Watch::new();
        let mut ledger = Ledger::new(roomy());
        for step in steps {
            let Some(moment) = world.step(step) else { continue };
            watch.look(&moment, &mut world);
            watch.look_around(&world);
            ledger.note(&moment, &world);
            ledger.compare(&world);
        }
    }

    #[test]
    fn a_crowded_world_breaks_no_rule_either(steps in any_steps()) {
        let mut world = World::new(crowded());
        let mut watch = Watch::new();
        for step in steps {
            let Some(moment) = world.step(step) else { continue };
            watch.look(&moment, &mut world);
            watch.look_around(&world);
        }
    }

    /// All or none: a deployment is refused exactly when there are not enough ports for all its replicas.
    #[test]
    fn ports_are_refused_only_when_too_few_are_free(steps in any_steps(), replicas in 1..5_u32) {
        let settings = Settings { ports: 8001..=8006, ..stage::settings() };
        let mut world = World::new(settings.clone());
        for step in steps {
            world.step(step);
        }
        let free = settings.ports.len() - world.living.len();
        let deployment = Deployment { replicas, ..deployment(RestartMode::Never) };
        let agent = stage::agent("another");
        let moment = world.ask(Command::Deploy(agent, deployment, Beside::Refuse));
        match moment.outcome {
            Ok(actions) => prop_assert_eq!(spawns(&actions), replicas as usize),
            Err(Refusal::NoPortFree) => prop_assert!(free < replicas as usize),
            Err(refusal) => prop_assert_eq!(refusal, Refusal::ShuttingDown),
        }
    }

    /// However stubborn the processes, and in whatever state the agent was.
    #[test]
    fn stop_always_ends_in_time(steps in any_steps(), index in 0..AGENTS, how in 0..3) {
        let settings = roomy();
        let mut world = World::after(settings.clone(), steps);
        let agent = nth_agent(index);
        let asked_at = world.now;
        let command = match how {
            0 => Command::Stop(agent.clone()),
            1 => Command::Remove(agent.clone()),
            _ => Command::StopAll,
        };
        if world.ask(command).outcome.is_err() {
            return Ok(()); // Nobody knows it.
        }
        for _ in 0..SILENT_TICKS {
            world.bury_the_killed();
            if world.processes_of(&agent).next().is_none() {
                break;
            }
            world.step(Step::WaitForDeadline);
        }
        prop_assert!(world.processes_of(&agent).next().is_none());
        prop_assert!(world.now - asked_at <= settings.drain_timeout + settings.stop_grace);
        let left = world.fleet.agent(&agent);
        let waits = left.is_some_and(|it| it.all_replicas().any(|it| it.restart_at.is_some()));
        prop_assert!(!waits);
    }

    #[test]
    fn after_the_first_signal_everything_ends_nothing_starts_and_the_same_is_desired(
        before in any_steps(), after in any_steps(),
    ) {
        let mut world = World::after(roomy(), before);
        let desired = |world: &World| -> Vec<_> {
            world.fleet.status().into_values().map(|it| it.desired).collect()
        };
        world.ask(Command::StopAll);
        let wanted = desired(&world);
        let asks = |step: &Step| matches!(step, Step::Ask(Ask::Stop | Ask::Remove, _) | Step::Rebirth(_));
        for step in after.into_iter().filter(|it| !asks(it)) {
            let moment = world.step(step);
            let actions = moment.iter().flat_map(|it| it.outcome.iter().flatten());
            let mut spawns = actions.filter(|it| matches!(it, Action::Spawn { .. }));
            prop_assert_eq!(spawns.next(), None);
        }
        fall_silent(&mut world);
        prop_assert!(world.fleet.is_idle() && world.living.is_empty());
        let removed_before = wanted.len() - desired(&world).len();
        prop_assert!(removed_before == 0 || desired(&world).iter().all(|it| wanted.contains(it)));
        prop_assert!(removed_before > 0 || desired(&world) == wanted);
    }

    /// With or without a first signal.
    #[test]
    fn after_the_second_signal_nobody_is_left_who_is_not_killed(steps in any_steps()) {
        let mut world = World::after(roomy(), steps);
        world.ask(Command::KillAll);
        world.bury_the_killed();
        prop_assert!(world.living.is_empty(), "{:?}", world.living);
        prop_assert!(world.fleet.is_idle());
    }

    /// Whatever was there is there again: the same is desired, and of what is desired, all that is missing begins.
    #[test]
    fn a_stopped_world_is_restored_as_it_was_desired(steps in any_steps()) {
        let mut world = World::after(roomy(), steps);
        world.ask(Command::StopAll);
        fall_silent(&mut world);
        let moment = world.step(Step::Rebirth(0)).expect("somebody is born");
        prop_assert!(world.living.values().all(|it| it.ready_since.is_none()));
        let mut watch = Watch::new();
        watch.look(&moment, &mut world);
        watch.look_around(&world);
    }

    #[test]
    fn late_news_changes_nothing(steps in any_steps(), news in any_news(), index in 0..AGENTS) {
        let mut world = World::new(crowded());
        for step in steps {
            world.step(step);
            world.fleet.take_changed();
            let late = world.late(news.clone(), index);
            let before = world.sight();
            prop_assert_eq!(world.fleet.handle(world.now, late), []);
            prop_assert_eq!(world.sight(), before);
            prop_assert!(world.fleet.take_changed().is_empty());
        }
    }

    #[test]
    fn a_refused_command_changes_nothing(steps in any_steps()) {
        let mut world = World::new(crowded());
        for step in steps {
            world.fleet.take_changed();
            let before = world.sight();
            let refused = world.step(step).is_some_and(|moment| moment.outcome.is_err());
            if refused {
                prop_assert_eq!(world.sight(), before);
                prop_assert!(world.fleet.take_changed().is_empty());
            }
        }
    }

    #[test]
    fn before_the_deadline_a_tick_changes_nothing(steps in any_steps()) {
        let mut world = World::new(roomy());
        for step in steps {
            world.step(step);
            let before = world.sight();
            if world.fleet.next_deadline().is_none_or(|deadline| world.now < deadline) {
                prop_assert_eq!(world.fleet.handle(world.now, Event::Tick), []);
                prop_assert_eq!(world.sight(), before);
            }
        }
    }

    /// A world that falls silent comes to rest: every tick at a deadline brings it closer.
    #[test]
    fn deadlines_lead_somewhere(steps in any_steps()) {
        let mut world = World::after(roomy(), steps);
        fall_silent(&mut world);
        prop_assert_eq!(world.fleet.next_deadline(), None);
    }

    /// Also when not even the killed die.
    #[test]
    fn deadlines_lead_somewhere_if_nobody_ever_dies(steps in any_steps()) {
        let mut world = World::after(roomy(), steps);
        for _ in 0..SILENT_TICKS {
            world.step(Step::WaitForDeadline);
        }
        prop_assert_eq!(world.fleet.next_deadline(), None);
    }

    /// Whatever is deployed beside it, however often, and whatever becomes of that.
    #[test]
    fn an_agent_that_serves_is_there_while_others_come_in_and_fail(
        before in any_steps(), after in prop::collection::vec(any_step(), 0..200),
    ) {
        let mut world = World::after(roomy(), before);
        let agent = nth_agent(0);
        if world.closing || !current_serves(&world, &agent) {
            return Ok(());
        }
        for step in after {
            if is_gentle(&step, &agent, &world) {
                world.step(step);
                prop_assert!(matches!(world.fleet.routes()[&agent], Route::Ready(_)));
            }
        }
    }
}

fn current_serves(world: &World, agent: &AgentId) -> bool {
    let Some(status) = world.fleet.agent(agent) else {
        return false;
    };
    status
        .replicas
        .iter()
        .any(|it| it.ready_since.is_some() && it.idle.is_none())
}

/// It deploys, or is news of those that are not routed to, or of their end.
fn is_gentle(step: &Step, agent: &AgentId, world: &World) -> bool {
    let routed: BTreeSet<ReplicaId> = match &world.fleet.routes()[agent] {
        Route::Ready(targets) => targets
            .groups
            .iter()
            .flat_map(|(_, it)| it)
            .copied()
            .collect(),
        _ => BTreeSet::new(),
    };
    match step {
        Step::Ask(ask, index) => {
            let deploys = matches!(
                ask,
                Ask::Deploy(..) | Ask::Promote | Ask::Abandon | Ask::Start | Ask::Wake
            );
            deploys || nth_agent(*index) != *agent
        }
        Step::Tell(News::Exited(_) | News::Silent | News::Quiet, index) => {
            let living: Vec<(&ReplicaId, &Process)> = world.living.iter().collect();
            let about = living.get(index % living.len().max(1));
            about.is_none_or(|(replica, _)| !routed.contains(replica))
        }
        Step::Rebirth(_) | Step::StopAll | Step::KillAll => false,
        _ => true,
    }
}

#[test]
fn a_tick_of_an_empty_fleet_does_nothing() {
    let mut world = World::new(roomy());
    let moment = world.feed(Input::Event(Event::Tick));
    assert_eq!(moment.outcome, Ok(vec![]));
    assert!(world.fleet.is_idle());
}
