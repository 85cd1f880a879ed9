//! A release that takes a share of the calls.

use par_lifecycle::{Beside, Canary, Command, Event, Refusal, Release, Route, What};
use par_model::ReplicaId;
use par_model::control::EndCause;

use crate::stage::{
    CLEAN, CRASH, SECOND, Stage, agent, drain, groups, load_failed, only_spawn, release, retire,
    spawns, to,
};

/// The first release of `a` runs, and the second has a tenth of its calls.
fn with_canary(replicas: u32) -> (Stage, Vec<ReplicaId>, Vec<ReplicaId>) {
    let (mut stage, old) = Stage::with_all_running(release(1, replicas));
    let canary = stage.canary(release(2, 1), 100);
    stage.ready(&canary);
    stage.heard();
    (stage, old, canary)
}

fn tenth() -> Option<Canary> {
    Some(Canary {
        release: Release(2),
        permille: 100,
    })
}

#[test]
fn a_canary_takes_its_share_when_it_answers() {
    let (mut stage, old) = Stage::with_all_running(release(1, 2));
    let canary = stage.canary(release(2, 5), 100);
    assert_eq!(canary.len(), 1, "its share asks for no more");
    assert_eq!(stage.route("a"), to(&old));
    assert_eq!(stage.agent("a").desired.canary, None);
    stage.ready(&canary);
    assert_eq!(stage.route("a"), groups(&[(900, &old), (100, &canary)]));
    assert_eq!(stage.agent("a").desired.canary, tenth());
    assert_eq!(stage.agent("a").desired.current, Release(1));
}

#[test]
fn a_canary_has_as_many_replicas_as_its_share_asks_for() {
    for (permille, replicas) in [(1, 1), (250, 1), (500, 2), (999, 3), (0, 1), (5000, 3)] {
        let (mut stage, _) = Stage::with_all_running(release(1, 4));
        let canary = stage.canary(release(2, 9), permille);
        assert_eq!(canary.len(), replicas, "{permille}");
        stage.ready(&canary);
        let Route::Ready(targets) = stage.route("a") else {
            panic!("it serves");
        };
        assert!(
            targets
                .groups
                .iter()
                .all(|(share, _)| (1..1000).contains(share))
        );
    }
}

#[test]
fn a_promoted_canary_gets_all_calls_and_as_many_replicas_as_the_agent_has() {
    let (mut stage, old, canary) = with_canary(2);
    let more = spawns(&stage.ask(Command::Promote(agent("a"))));
    assert_eq!(more.len(), 1);
    let shared = groups(&[(900, &old), (100, &canary)]);
    assert_eq!(
        stage.route("a"),
        shared,
        "it keeps its share until it is whole"
    );
    assert_eq!(stage.agent("a").desired.canary, tenth());

    assert_eq!(
        stage.tell(Event::Ready(more[0])),
        [retire(old[0]), retire(old[1])]
    );
    assert_eq!(stage.route("a"), to(&[canary[0], more[0]]));
    let desired = stage.agent("a").desired;
    assert_eq!((desired.current, desired.replicas), (Release(2), 2));
    assert_eq!(desired.canary, None);
    let told = stage.heard();
    assert_eq!(told[..3], [What::Promoted, What::Starting, What::Ready]);
    assert_eq!(told[3], What::ReleaseLive);
}

#[test]
fn a_canary_that_is_whole_already_is_promoted_at_once() {
    let (mut stage, old, canary) = with_canary(1);
    assert_eq!(stage.ask(Command::Promote(agent("a"))), [retire(old[0])]);
    assert_eq!(stage.route("a"), to(&canary));
}

#[test]
fn a_promotion_given_twice_is_one_promotion() {
    let (mut stage, _, _) = with_canary(2);
    stage.ask(Command::Promote(agent("a")));
    assert_eq!(stage.ask(Command::Promote(agent("a"))), []);
}

#[test]
fn a_promotion_that_does_not_become_whole_is_let_go_and_the_one_before_goes_on() {
    let (mut stage, old, canary) = with_canary(2);
    let more = spawns(&stage.ask(Command::Promote(agent("a"))));
    let ended = stage.tell(Event::Exited(more[0], load_failed()));
    assert_eq!(ended, [retire(canary[0])]);
    assert_eq!(stage.route("a"), to(&old));
    assert_eq!(stage.agent("a").desired.canary, None);
    assert_eq!(stage.agent("a").failed, Some((Release(2), load_failed())));
}

#[test]
fn a_promotion_for_which_there_are_too_few_ports_is_refused_and_changes_nothing() {
    let (mut stage, _) = Stage::with_all_running(release(1, 7));
    let canary = stage.canary(release(2, 1), 100);
    stage.ready(&canary);
    let before = stage.agent("a");
    assert_eq!(
        stage.try_ask(Command::Promote(agent("a"))),
        Err(Refusal::NoPortFree)
    );
    assert_eq!(stage.agent("a"), before);
}

#[test]
fn only_a_canary_that_answers_is_promoted() {
    let (mut stage, _) = Stage::with_all_running(release(1, 1));
    let promote = Command::Promote(agent("a"));
    assert_eq!(
        stage.try_ask(promote.clone()),
        Err(Refusal::NoCanary(agent("a")))
    );
    stage.canary(release(2, 1), 100);
    assert_eq!(
        stage.try_ask(promote.clone()),
        Err(Refusal::CanaryNotReady(agent("a")))
    );
    stage.roll(release(3, 1));
    assert_eq!(stage.try_ask(promote), Err(Refusal::NoCanary(agent("a"))));
}

#[test]
fn an_abandoned_canary_drains_and_all_calls_go_to_the_release_before() {
    let (mut stage, old, canary) = with_canary(1);
    assert_eq!(stage.ask(Command::Abandon(agent("a"))), [retire(canary[0])]);
    assert_eq!(stage.route("a"), to(&old));
    let status = stage.agent("a");
    assert_eq!(status.desired.canary, None);
    assert_eq!(status.failed, Some((Release(2), EndCause::Abandoned)));
}

#[test]
fn a_canary_that_crashes_is_restarted_by_its_policy_and_the_others_take_its_calls() {
    let (mut stage, old, canary) = with_canary(1);
    let again = stage.ends_and_restarts(canary[0], CRASH);
    assert_eq!(stage.route("a"), to(&old));
    assert_eq!(
        stage.agent("a").desired.canary,
        tenth(),
        "a crash is nobody's wish"
    );
    stage.ready(&[again]);
    assert_eq!(stage.route("a"), groups(&[(900, &old), (100, &[again])]));
    assert_eq!(
        stage
            .heard()
            .iter()
            .filter(|it| matches!(it, What::CanaryStarted { .. }))
            .count(),
        0
    );
}

#[test]
fn a_canary_that_crashes_too_often_or_finishes_is_let_go() {
    let (mut stage, old, canary) = with_canary(1);
    let mut replica = canary[0];
    for _ in 0..3 {
        stage.tell(Event::Exited(replica, CRASH));
        stage.pass(300 * SECOND);
        let status = stage.agent("a").incoming.expect("it is given its chances");
        replica = status.replicas[0].incarnation.expect("it lives").replica;
        stage.ready(&[replica]);
    }
    stage.tell(Event::Exited(replica, CRASH));
    assert_eq!(stage.agent("a").failed, Some((Release(2), CRASH)));
    assert_eq!(stage.agent("a").desired.canary, None);
    assert_eq!(stage.route("a"), to(&old));

    let (mut stage, _, canary) = with_canary(1);
    stage.tell(Event::Exited(canary[0], CLEAN));
    assert_eq!(stage.agent("a").failed, Some((Release(2), CLEAN)));
}

#[test]
fn a_canary_takes_all_calls_while_the_release_before_is_down() {
    let (mut stage, old, canary) = with_canary(1);
    let again = only_spawn(&stage.tell(Event::Exited(old[0], CRASH)));
    assert_eq!(stage.route("a"), to(&canary));
    stage.ready(&[again]);
    assert_eq!(stage.route("a"), groups(&[(900, &[again]), (100, &canary)]));
}

#[test]
fn a_later_canary_or_release_takes_the_place_of_a_canary() {
    let (mut stage, old, canary) = with_canary(1);
    let third = stage.canary(release(3, 1), 500);
    assert_eq!(stage.route("a"), to(&old));
    assert_eq!(stage.agent("a").desired.canary, None);
    assert_eq!(
        stage.agent("a").failed,
        Some((Release(2), EndCause::Superseded))
    );
    stage.obey(&canary);
    stage.ready(&third);
    assert_eq!(stage.route("a"), groups(&[(500, &old), (500, &third)]));

    let fourth = stage.roll(release(4, 1));
    assert_eq!(stage.agent("a").desired.canary, None);
    stage.ready(&fourth);
    assert_eq!(stage.route("a"), to(&fourth));
}

#[test]
fn a_canary_needs_a_release_that_serves_beside_it() {
    let (mut stage, old) = Stage::with_all_running(release(1, 1));
    let refused = |stage: &mut Stage| {
        let deploy = Command::Deploy(agent("a"), release(2, 1), Beside::Canary { permille: 100 });
        assert_eq!(
            stage.try_ask(deploy),
            Err(Refusal::NothingBeside(agent("a")))
        );
    };
    stage.ask(Command::Stop(agent("a")));
    refused(&mut stage);
    stage.obey(&old);
    refused(&mut stage);
    stage.ask(Command::Start(agent("a")));
    refused(&mut stage);
}

#[test]
fn a_stop_ends_the_canary_too_and_a_start_does_not_bring_it_back() {
    let (mut stage, old, canary) = with_canary(1);
    let stopped = stage.ask(Command::Stop(agent("a")));
    assert_eq!(stopped, [drain(canary[0]), drain(old[0])]);
    assert_eq!(stage.agent("a").desired.canary, None);
    stage.obey(&canary);
    stage.obey(&old);
    only_spawn(&stage.ask(Command::Start(agent("a"))));
}

#[test]
fn the_end_of_everything_leaves_the_canary_desired_but_not_one_that_never_answered() {
    for command in [Command::StopAll, Command::KillAll] {
        let (mut stage, old, canary) = with_canary(1);
        let desired = stage.agent("a").desired;
        stage.ask(command.clone());
        assert_eq!(stage.agent("a").desired, desired);
        assert_eq!(stage.agent("a").failed, None);
        stage.obey(&old);
        stage.obey(&canary);
        assert_eq!(stage.agent("a").desired, desired);

        let (mut stage, _) = Stage::with_all_running(release(1, 1));
        let desired = stage.agent("a").desired;
        stage.canary(release(2, 1), 100);
        stage.ask(command);
        assert_eq!(stage.agent("a").desired, desired);
    }
}
