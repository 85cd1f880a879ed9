//! What holds in every world, whatever happens in it.

use std::collections::{BTreeMap, BTreeSet};

use par_lifecycle::{Action, Command, Event, Refusal, Route, Settings};
use par_model::ReplicaId;
use proptest::prelude::*;

use crate::ledger::Ledger;
use crate::stage;
use crate::world::{AGENTS, Input, Step, World, any_news, any_steps, nth_agent};

/// Deadlines that can come before all is quiet: each agent waits for its restart, does not come up, is killed.
const SILENT_TICKS: usize = 3 * AGENTS;

/// Room for everybody, so that the ledger needs to know nothing of ports.
fn roomy() -> Settings {
    Settings {
        ports: 8001..=8099,
        ..stage::settings()
    }
}

/// Fewer ports than agents want, and gRPC ports that are the HTTP ports of others.
fn crowded() -> Settings {
    Settings {
        ports: 10..=15,
        grpc_offset: 2,
        ..stage::settings()
    }
}

proptest! {
    #[test]
    fn one_incarnation_at_a_time(steps in any_steps()) {
        let mut world = World::new(roomy());
        for step in steps {
            world.step(step);
            let agents: BTreeSet<_> = world.living.values().map(|it| &it.agent).collect();
            prop_assert_eq!(agents.len(), world.living.len(), "{:?}", world.living);
        }
    }

    #[test]
    fn ports_are_never_shared(steps in any_steps()) {
        let settings = crowded();
        let mut world = World::new(settings.clone());
        for step in steps {
            world.step(step);
            let mut ports = BTreeSet::new();
            for process in world.living.values() {
                prop_assert!(settings.ports.contains(&process.port));
                prop_assert_eq!(process.grpc_port, process.port + settings.grpc_offset);
                prop_assert!(ports.insert(process.port), "{:?}", world.living);
                prop_assert!(ports.insert(process.grpc_port), "{:?}", world.living);
            }
        }
    }

    #[test]
    fn a_port_is_refused_only_when_none_is_free(steps in any_steps()) {
        let settings = crowded();
        let mut world = World::new(settings.clone());
        for step in steps {
            let refused = world.step(step)
                .is_some_and(|moment| moment.outcome == Err(Refusal::NoPortFree));
            if refused {
                let held: BTreeSet<u16> =
                    world.living.values().flat_map(|it| [it.port, it.grpc_port]).collect();
                let mut ports = settings.ports.clone();
                let free = ports.find(|http| !held.contains(http) && !held.contains(&(http + settings.grpc_offset)));
                prop_assert_eq!(free, None, "{:?}", world.living);
            }
        }
    }

    /// However stubborn the process, and in whatever state the agent was.
    #[test]
    fn stop_always_ends_in_time(steps in any_steps(), index in 0..AGENTS, how in 0..3) {
        let settings = roomy();
        let mut world = World::after(settings.clone(), steps);
        let agent = nth_agent(index);
        let command = match how {
            0 => Command::Stop(agent.clone()),
            1 => Command::Remove(agent.clone()),
            _ => Command::StopAll,
        };
        let asked_at = world.now;
        if world.feed(Input::Command(command)).outcome.is_err() {
            return Ok(()); // Nobody knows it.
        }
        for _ in 0..SILENT_TICKS {
            world.bury_the_killed();
            if world.process_of(&agent).is_none() {
                break;
            }
            world.step(Step::WaitForDeadline);
        }
        prop_assert!(world.process_of(&agent).is_none(), "{:?}", world.living);
        prop_assert!(world.now - asked_at <= settings.drain_timeout + settings.stop_grace);
        let status = world.fleet.status();
        let left = status.get(&agent);
        prop_assert!(left.is_none_or(|it| it.restart_at.is_none()), "{left:?}");
    }

    #[test]
    fn after_the_first_signal_everything_ends_and_nothing_starts(
        before in any_steps(), after in any_steps(),
    ) {
        let mut world = World::after(roomy(), before);
        world.feed(Input::Command(Command::StopAll));
        for step in after {
            let moment = world.step(step);
            let actions = moment.iter().flat_map(|it| it.outcome.iter().flatten());
            let mut spawns = actions.filter(|it| matches!(it, Action::Spawn { .. }));
            prop_assert_eq!(spawns.next(), None);
        }
        for _ in 0..SILENT_TICKS {
            world.step(Step::WaitForDeadline);
            world.bury_the_killed();
        }
        prop_assert!(world.fleet.is_idle());
    }

    /// With or without a first signal.
    #[test]
    fn after_the_second_signal_nobody_is_left_who_is_not_killed(steps in any_steps()) {
        let mut world = World::after(roomy(), steps);
        world.feed(Input::Command(Command::KillAll));
        world.bury_the_killed();
        prop_assert!(world.living.is_empty(), "{:?}", world.living);
        prop_assert!(world.fleet.is_idle());
    }

    #[test]
    fn restarts_are_bounded(steps in any_steps()) {
        let settings = roomy();
        let mut world = World::new(settings.clone());
        let mut ledger = Ledger::new(settings);
        for step in steps {
            let Some(moment) = world.step(step) else { continue };
            ledger.note(&moment, &world);
            for action in moment.outcome.iter().flatten() {
                if let Action::Spawn { agent, .. } = action {
                    let page = &ledger.pages[agent];
                    let most = page.deployment.restart.max_restarts;
                    prop_assert!(page.unstable <= most, "{agent}: {page:?}");
                }
            }
        }
    }

    #[test]
    fn late_news_changes_nothing(steps in any_steps(), news in any_news(), index in 0..AGENTS) {
        let mut world = World::new(crowded());
        for step in steps {
            world.step(step);
            let late = world.late(news.clone(), index);
            let before = world.sight();
            prop_assert_eq!(world.fleet.handle(world.now, late), []);
            prop_assert_eq!(world.sight(), before);
        }
    }

    #[test]
    fn a_refused_command_changes_nothing(steps in any_steps()) {
        let mut world = World::new(crowded());
        for step in steps {
            let before = world.sight();
            let refused = world.step(step).is_some_and(|moment| moment.outcome.is_err());
            if refused {
                prop_assert_eq!(world.sight(), before);
            }
        }
    }

    #[test]
    fn routes_only_point_at_ready_incarnations(steps in any_steps()) {
        let mut world = World::new(crowded());
        for step in steps {
            world.step(step);
            for (agent, route) in world.fleet.routes() {
                let process = world.process_of(&agent);
                let answers = process.is_some_and(|it| it.ready_since.is_some() && !it.told_to_end);
                match route {
                    Route::Ready(replica) => {
                        prop_assert!(answers);
                        prop_assert_eq!(&world.living[&replica].agent, &agent);
                    }
                    Route::Soon => prop_assert!(!answers && process.is_some()),
                    Route::Down => prop_assert!(!answers),
                }
            }
        }
    }

    #[test]
    fn what_is_published_is_what_is_routed_and_nobody_is_told_to_end_before_it_is_withdrawn(
        steps in any_steps(),
    ) {
        let mut world = World::new(roomy());
        let mut published = BTreeMap::new();
        for step in steps {
            let Some(moment) = world.step(step) else { continue };
            for action in moment.outcome.iter().flatten() {
                match action {
                    Action::Publish { agent, replica } => {
                        prop_assert_eq!(published.insert(agent.clone(), *replica), None);
                    }
                    Action::Withdraw { agent, replica } => {
                        prop_assert_eq!(published.remove(agent), Some(*replica));
                    }
                    Action::Drain { replica, .. } | Action::Terminate(replica) | Action::Kill(replica) => {
                        prop_assert!(!published.values().any(|it| it == replica));
                    }
                    Action::Spawn { .. } | Action::Forget(_) => {}
                }
            }
            let ready = |(agent, route)| match route {
                Route::Ready(replica) => Some((agent, replica)),
                Route::Soon | Route::Down => None,
            };
            let routed: BTreeMap<_, ReplicaId> =
                world.fleet.routes().into_iter().filter_map(ready).collect();
            prop_assert_eq!(&routed, &published);
        }
    }

    /// A world that falls silent comes to rest: every tick at a deadline brings it closer.
    #[test]
    fn deadlines_lead_somewhere(steps in any_steps()) {
        let mut world = World::after(roomy(), steps);
        for _ in 0..SILENT_TICKS {
            world.step(Step::WaitForDeadline);
        }
        prop_assert_eq!(world.fleet.next_deadline(), None);
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

    #[test]
    fn the_fleet_is_idle_when_nobody_lives_and_nobody_will(steps in any_steps()) {
        let mut world = World::new(roomy());
        for step in steps {
            world.step(step);
            let status = world.fleet.status();
            let awaited = status.values().any(|it| it.restart_at.is_some());
            prop_assert_eq!(world.fleet.is_idle(), world.living.is_empty() && !awaited);
        }
    }

    #[test]
    fn status_matches_a_dumb_model(steps in any_steps()) {
        let settings = roomy();
        let mut world = World::new(settings.clone());
        let mut ledger = Ledger::new(settings);
        for step in steps {
            let Some(moment) = world.step(step) else { continue };
            ledger.note(&moment, &world);
            let status = world.fleet.status();
            prop_assert_eq!(
                status.keys().collect::<Vec<_>>(),
                ledger.pages.keys().collect::<Vec<_>>()
            );
            for (agent, page) in &ledger.pages {
                let expected = page.expects(world.process_of(agent));
                let seen = &status[agent];
                prop_assert_eq!(seen.state, expected.state, "{}: {:?}", agent, page);
                prop_assert_eq!(seen.restart_count, expected.restarts, "{}: {:?}", agent, page);
                prop_assert_eq!(seen.restart_at, expected.restart_at, "{}: {:?}", agent, page);
                if expected.error.is_some() {
                    prop_assert_eq!(&seen.error, &expected.error);
                }
            }
        }
    }
}
