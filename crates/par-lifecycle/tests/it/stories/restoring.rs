//! Agents as an earlier supervisor left them.

use std::time::Instant;

use par_lifecycle::{
    Action, Canary, Command, Deployment, Desired, Event, Idle, Incarnation, Release, Restored,
    Route, Settings, Survivor, Wanted, What,
};
use par_model::{ProcessState, ReplicaId};

use crate::stage::{
    CRASH, SECOND, Stage, agent, drain, groups, load_failed, only_spawn, release, retire, settings,
    spawns, to,
};

fn stage() -> Stage {
    Stage::new(Settings {
        ports: 8001..=8012,
        first_replica: 100,
        ..settings()
    })
}

fn left(deployment: Deployment) -> Restored {
    Restored {
        desired: Desired {
            wanted: Wanted::Up,
            replicas: deployment.replicas,
            current: deployment.release,
            canary: None,
        },
        deployment,
        canary: None,
        proven: true,
        living: vec![],
        homes: vec![],
    }
}

/// With a tenth of the calls for its second release.
fn left_with_canary(replicas: u32) -> Restored {
    let mut restored = left(release(1, replicas));
    restored.desired.canary = Some(Canary {
        release: Release(2),
        permille: 100,
    });
    restored.canary = Some(release(2, 7));
    restored
}

fn survivor(id: u64, slot: u32, number: u32) -> Survivor {
    let port = 8000 + u16::try_from(id).expect("a small number");
    let incarnation = Incarnation {
        replica: ReplicaId(id),
        slot,
        release: Release(number),
        port,
        grpc_port: port + 10_000,
        pid: Some(7),
    };
    Survivor {
        incarnation,
        since: Instant::now(),
        restarts: 0,
        sessions: false,
        serves: true,
    }
}

#[test]
fn what_was_up_is_started_again_with_new_ids_on_the_ports_that_it_had_and_callers_wait() {
    let mut stage = stage();
    let homes = vec![(0, 8007), (1, 8003)];
    let restored = Restored {
        homes,
        ..left(release(1, 2))
    };
    let started = spawns(&stage.restore("a", restored));
    assert_eq!(started, [ReplicaId(100), ReplicaId(101)]);
    let ports: Vec<u16> = stage.agent("a").incarnations().map(|it| it.port).collect();
    assert_eq!(ports, [8007, 8003]);
    assert_eq!(stage.route("a"), Route::Soon);
    stage.ready(&started);
    assert_eq!(stage.route("a"), to(&started));
    let told = [What::Starting, What::Starting, What::Ready, What::Ready];
    assert_eq!(stage.heard(), told, "it was live before");
}

#[test]
fn what_had_served_is_restarted_by_its_policy_and_what_never_had_fails() {
    for (proven, state) in [
        (true, ProcessState::Starting),
        (false, ProcessState::Failed),
    ] {
        let mut stage = stage();
        let restored = Restored {
            proven,
            ..left(release(1, 1))
        };
        let started = only_spawn(&stage.restore("a", restored));
        assert_eq!(stage.route("a") == Route::Soon, proven);
        stage.tell(Event::Exited(started, load_failed()));
        assert_eq!(stage.status("a").state, state);
    }
}

#[test]
fn workers_that_went_on_serving_are_adopted_and_nothing_is_started() {
    let mut stage = stage();
    let living = vec![survivor(3, 0, 1), survivor(4, 1, 1)];
    let since = living[0].since;
    let restored = Restored {
        living,
        ..left(release(1, 2))
    };
    assert_eq!(stage.restore("a", restored), []);
    assert_eq!(stage.route("a"), to(&[ReplicaId(3), ReplicaId(4)]));
    assert_eq!(stage.status("a").ready_since, Some(since));
    assert_eq!(stage.incarnation("a").pid, Some(7));
    assert_eq!(stage.fleet.owner(ReplicaId(3)), Some(&agent("a")));
    assert_eq!(stage.heard(), [What::Adopted, What::Adopted]);

    let again = stage.ends_and_restarts(ReplicaId(3), CRASH);
    assert_eq!(again, ReplicaId(100));
    assert_eq!(stage.incarnation("a").port, 8003, "its own");
}

#[test]
fn what_is_missing_beside_the_adopted_is_started() {
    let mut stage = stage();
    let restored = Restored {
        living: vec![survivor(4, 1, 1)],
        ..left(release(1, 3))
    };
    assert_eq!(spawns(&stage.restore("a", restored)).len(), 2);
    assert_eq!(stage.route("a"), to(&[ReplicaId(4)]));
}

#[test]
fn survivors_that_nobody_wants_are_let_go() {
    let mut stage = stage();
    let too_many = survivor(4, 1, 1);
    let earlier_of_the_same_slot = survivor(3, 0, 1);
    let other_release = survivor(6, 0, 9);
    let restored = Restored {
        living: vec![
            earlier_of_the_same_slot,
            too_many,
            survivor(5, 0, 1),
            other_release,
        ],
        ..left(release(1, 1))
    };
    let mut ended = stage.restore("a", restored);
    ended.sort_by_key(|it| format!("{it:?}"));
    let unwanted = [3, 4, 6].map(ReplicaId);
    assert_eq!(ended, unwanted.map(retire));
    assert_eq!(stage.route("a"), to(&[ReplicaId(5)]));
    let notes = stage.heard_notes();
    let nine = notes.iter().find(|it| it.replica == Some(ReplicaId(6)));
    assert_eq!(nine.map(|it| it.release), Some(Release(9)));
    stage.obey(&unwanted);
    assert_eq!(stage.agent("a").leaving, []);
}

#[test]
fn what_was_stopped_stays_stopped_and_its_survivors_are_let_go() {
    let mut stage = stage();
    let mut restored = left(release(1, 2));
    restored.desired.wanted = Wanted::Stopped;
    restored.living = vec![survivor(3, 0, 1)];
    assert_eq!(stage.restore("a", restored.clone()), [drain(ReplicaId(3))]);
    assert_eq!(stage.agent("a").desired, restored.desired);
    assert_eq!(stage.route("a"), Route::Down);
    stage.obey(&[ReplicaId(3)]);
    assert!(stage.fleet.is_idle());
    assert_eq!(spawns(&stage.ask(Command::Start(agent("a")))).len(), 2);
}

#[test]
fn what_may_sleep_sleeps_until_somebody_calls_it() {
    let sleepy = Deployment {
        stop_when_frozen_for: Some(60 * SECOND),
        ..release(1, 2)
    };
    let mut stage = stage();
    assert_eq!(stage.restore("a", left(sleepy)), []);
    assert_eq!(stage.route("a"), Route::Asleep);
    assert_eq!(stage.status("a").idle, Some(Idle::Stopped));
    let awake = spawns(&stage.ask(Command::Wake(agent("a"))));
    assert_eq!(stage.route("a"), Route::Soon);
    stage.ready(&awake);
    assert_eq!(stage.route("a"), to(&awake));
}

#[test]
fn what_never_answered_does_not_sleep_and_neither_does_what_still_lives_in_part() {
    let sleepy = Deployment {
        stop_when_frozen_for: Some(60 * SECOND),
        ..release(1, 2)
    };
    for (proven, living, starts) in [(false, vec![], 2), (true, vec![survivor(3, 0, 1)], 1)] {
        let mut stage = stage();
        let restored = Restored {
            proven,
            living,
            ..left(sleepy)
        };
        assert_eq!(spawns(&stage.restore("a", restored)).len(), starts);
    }
}

#[test]
fn a_canary_is_restored_with_its_share() {
    let mut stage = stage();
    let restored = Restored {
        living: vec![survivor(3, 0, 1), survivor(4, 0, 2)],
        ..left_with_canary(1)
    };
    assert_eq!(stage.restore("a", restored.clone()), []);
    assert_eq!(stage.agent("a").desired, restored.desired);
    let shared = groups(&[(900, &[ReplicaId(3)]), (100, &[ReplicaId(4)])]);
    assert_eq!(stage.route("a"), shared);
    stage.ask(Command::Promote(agent("a")));
    assert_eq!(stage.route("a"), to(&[ReplicaId(4)]));
}

#[test]
fn a_canary_that_did_not_survive_is_started_with_as_many_replicas_as_its_share_asks_for() {
    let mut stage = stage();
    let started = spawns(&stage.restore("a", left_with_canary(4)));
    assert_eq!(started.len(), 5);
    stage.ready(&started);
    let shared = groups(&[(900, &started[..4]), (100, &started[4..])]);
    assert_eq!(stage.route("a"), shared);
    let told = stage.heard();
    assert!(
        !told
            .iter()
            .any(|it| matches!(it, What::CanaryStarted { .. } | What::ReleaseLive))
    );
}

#[test]
fn nothing_sleeps_beside_a_canary() {
    let mut restored = left_with_canary(1);
    restored.deployment.stop_when_frozen_for = Some(SECOND);
    let mut stage = stage();
    assert_eq!(spawns(&stage.restore("a", restored)).len(), 2);
}

#[test]
fn a_canary_whose_making_is_lost_is_not_desired_any_more() {
    let mut stage = stage();
    let restored = Restored {
        canary: None,
        ..left_with_canary(1)
    };
    assert_eq!(spawns(&stage.restore("a", restored)).len(), 1);
    assert_eq!(stage.agent("a").desired.canary, None);
}

#[test]
fn nobody_is_started_on_a_port_that_a_survivor_of_another_agent_holds_or_that_is_anothers_home() {
    let mut stage = stage();
    let of_b = Restored {
        living: vec![survivor(1, 0, 1)],
        ..left(release(1, 1))
    };
    let of_c = Restored {
        homes: vec![(0, 8002)],
        ..left(release(1, 1))
    };
    let agents = [("a", left(release(1, 1))), ("b", of_b), ("c", of_c)];
    let agents = agents.map(|(name, restored)| (agent(name), restored));
    let _started: Vec<Action> = stage.fleet.restore(stage.now, agents);
    assert_eq!(stage.incarnation("a").port, 8003);
    assert_eq!(stage.incarnation("b").port, 8001);
    assert_eq!(stage.incarnation("c").port, 8002);
    assert_eq!(stage.fleet.take_changed().len(), 3);
}

#[test]
fn ids_are_never_given_again_even_if_the_first_was_said_too_low() {
    let mut stage = stage();
    let mut survivor = survivor(5, 0, 1);
    survivor.incarnation.replica = ReplicaId(100);
    let restored = Restored {
        living: vec![survivor],
        ..left(release(1, 2))
    };
    assert_eq!(only_spawn(&stage.restore("a", restored)), ReplicaId(101));
}

#[test]
fn as_many_replicas_are_restored_as_were_desired_last() {
    let mut restored = left(release(1, 1));
    restored.desired.replicas = 3;
    let mut stage = stage();
    assert_eq!(spawns(&stage.restore("a", restored)).len(), 3);
    assert_eq!(stage.agent("a").desired.replicas, 3);
}
