//! More replicas, or fewer.

use par_lifecycle::{Action, Command, Deployment, Event, Refusal, Release, Route, What};
use par_model::control::EndCause;
use par_model::{ProcessState, ReplicaId};

use crate::stage::{CRASH, SECOND, Stage, agent, drain, release, retire, spawns, to};

fn running(replicas: u32) -> (Stage, Vec<ReplicaId>) {
    Stage::with_all_running(release(1, replicas))
}

fn scale(stage: &mut Stage, replicas: u32) -> Vec<Action> {
    stage.ask(Command::Scale(agent("a"), replicas))
}

#[test]
fn replicas_of_one_agent_have_slots_and_ports_of_their_own_and_share_its_calls() {
    let (stage, replicas) = running(3);
    let incarnations: Vec<_> = stage.agent("a").incarnations().collect();
    let slots: Vec<u32> = incarnations.iter().map(|it| it.slot).collect();
    let ports: Vec<u16> = incarnations.iter().map(|it| it.port).collect();
    assert_eq!((slots, ports), (vec![0, 1, 2], vec![8001, 8002, 8003]));
    assert_eq!(stage.route("a"), to(&replicas));
}

#[test]
fn the_first_replica_that_answers_takes_calls_and_the_release_is_live_when_all_do() {
    let (mut stage, _) = running(1);
    let deploy = Command::Deploy(agent("b"), release(1, 2), par_lifecycle::Beside::Refuse);
    let replicas = spawns(&stage.ask(deploy));
    stage.ready(&replicas[1..]);
    assert_eq!(stage.route("b"), to(&replicas[1..]));
    assert!(!stage.agent("b").live);
    stage.ready(&replicas[..1]);
    assert!(stage.agent("b").live);
}

#[test]
fn more_replicas_begin_beside_those_that_serve() {
    let (mut stage, mut replicas) = running(1);
    stage.heard();
    let more = spawns(&scale(&mut stage, 3));
    assert_eq!(stage.route("a"), to(&replicas));
    stage.ready(&more);
    replicas.extend(&more);
    assert_eq!(stage.route("a"), to(&replicas));
    assert_eq!(stage.agent("a").desired.replicas, 3);
    let told = [What::Scaled { replicas: 3 }, What::Starting, What::Starting];
    assert_eq!(stage.heard()[..3], told);
}

#[test]
fn those_that_are_too_many_lose_the_route_and_drain() {
    let (mut stage, replicas) = running(3);
    assert_eq!(
        scale(&mut stage, 1),
        [retire(replicas[1]), retire(replicas[2])]
    );
    assert_eq!(stage.route("a"), to(&replicas[..1]));
    assert_eq!(stage.agent("a").leaving.len(), 2);
    stage.obey(&replicas[1..]);
    assert_eq!(stage.agent("a").leaving, []);
    assert_eq!(stage.agent("a").desired.replicas, 1);
}

#[test]
fn an_agent_has_one_replica_at_least() {
    let (mut stage, replicas) = running(2);
    assert_eq!(scale(&mut stage, 0), [retire(replicas[1])]);
    assert_eq!(stage.agent("a").desired.replicas, 1);
    let new = stage.roll(release(2, 0));
    stage.ready(&new);
    assert_eq!(stage.agent("a").desired.replicas, 1);
}

#[test]
fn a_slot_is_taken_anew_while_the_one_before_still_ends() {
    let (mut stage, replicas) = running(2);
    scale(&mut stage, 1);
    let again = spawns(&scale(&mut stage, 2));
    stage.ready(&again);
    assert_eq!(stage.route("a"), to(&[replicas[0], again[0]]));
    stage.obey(&replicas[1..]);
    assert_eq!(stage.route("a"), to(&[replicas[0], again[0]]));
}

#[test]
fn without_ports_for_all_nothing_changes() {
    let (mut stage, _) = running(10);
    let before = (stage.agent("a"), stage.fleet.next_deadline());
    let refused = stage.try_ask(Command::Scale(agent("a"), 13));
    assert_eq!(refused, Err(Refusal::NoPortFree));
    assert_eq!((stage.agent("a"), stage.fleet.next_deadline()), before);
    assert_eq!(spawns(&scale(&mut stage, 12)).len(), 2);
}

#[test]
fn a_release_that_comes_in_gets_as_many_replicas_as_the_agent() {
    let (mut stage, old) = running(1);
    let mut new = stage.roll(release(2, 1));
    let more = spawns(&scale(&mut stage, 2));
    assert_eq!(more.len(), 2);
    let (more_old, more_new) = (more[0], more[1]);
    stage.ready(&[new[0], more_old]);
    assert_eq!(stage.route("a"), to(&[old[0], more_old]));
    stage.ready(&[more_new]);
    new.push(more_new);
    assert_eq!(stage.route("a"), to(&new));
    assert_eq!(stage.agent("a").desired.replicas, 2);
}

#[test]
fn a_release_that_comes_in_is_live_with_fewer_if_fewer_are_wanted_meanwhile() {
    let (mut stage, _) = running(2);
    let new = stage.roll(release(2, 2));
    stage.ready(&new[..1]);
    scale(&mut stage, 1);
    assert_eq!(stage.route("a"), to(&new[..1]));
    assert_eq!(stage.agent("a").desired.current, Release(2));
}

#[test]
fn without_ports_for_the_release_that_comes_in_nothing_changes_either() {
    let (mut stage, _) = running(5);
    stage.roll(release(2, 5));
    let before = stage.agent("a");
    let refused = stage.try_ask(Command::Scale(agent("a"), 7));
    assert_eq!(refused, Err(Refusal::NoPortFree));
    assert_eq!(stage.agent("a"), before);
    assert_eq!(
        spawns(&scale(&mut stage, 6)).len(),
        2,
        "what was taken is given back"
    );
}

#[test]
fn a_canary_keeps_its_number_unless_that_is_too_many() {
    let (mut stage, _) = running(4);
    let canary = stage.canary(release(2, 1), 500);
    stage.ready(&canary);
    assert_eq!(canary.len(), 2);
    assert_eq!(spawns(&scale(&mut stage, 6)).len(), 2);
    let drained = scale(&mut stage, 1);
    assert!(drained.contains(&retire(canary[1])));
    stage.ask(Command::Promote(agent("a")));
    assert_eq!(stage.agent("a").desired.replicas, 1);
    assert_eq!(stage.route("a"), to(&canary[..1]));
}

#[test]
fn a_stopped_agent_rests_in_all_its_replicas_until_it_is_started() {
    let (mut stage, replicas) = running(1);
    stage.ask(Command::Stop(agent("a")));
    assert_eq!(scale(&mut stage, 2), [], "it stops");
    stage.obey(&replicas);
    assert_eq!(scale(&mut stage, 3), []);
    assert_eq!(stage.route("a"), Route::Down);
    assert_eq!(spawns(&stage.ask(Command::Start(agent("a")))).len(), 3);
}

#[test]
fn an_agent_that_sleeps_sleeps_in_all_its_replicas_and_wakes_in_all() {
    let sleepy = Deployment {
        stop_when_frozen_for: Some(SECOND),
        ..release(1, 1)
    };
    let (mut stage, replicas) = Stage::with_all_running(sleepy);
    stage.tell(Event::Quiet(replicas[0]));
    stage.pass(SECOND);
    assert_eq!(scale(&mut stage, 2), [], "it is about to sleep");
    stage.obey(&replicas);
    assert_eq!(scale(&mut stage, 3), []);
    assert_eq!(stage.route("a"), Route::Asleep);
    assert_eq!(spawns(&stage.ask(Command::Wake(agent("a")))).len(), 3);
}

#[test]
fn a_replica_that_crashes_leaves_the_calls_to_the_others_and_comes_back() {
    let (mut stage, replicas) = running(2);
    let again = stage.ends_and_restarts(replicas[0], CRASH);
    assert_eq!(stage.route("a"), to(&replicas[1..]));
    assert_eq!(stage.agent("a").replicas[1].restart_count, 0);
    stage.ready(&[again]);
    assert_eq!(stage.route("a"), to(&[again, replicas[1]]));
}

#[test]
fn a_replica_that_fails_for_good_does_not_end_the_others_and_is_started_by_hand() {
    let (mut stage, replicas) = running(2);
    let again = stage.ends_and_restarts(replicas[0], CRASH);
    stage.tell(Event::Exited(again, CRASH));
    stage.ask(Command::Scale(agent("a"), 2));
    let started = spawns(&stage.ask(Command::Start(agent("a"))));
    assert_eq!(started.len(), 1, "only the one that waits");
    stage.tell(Event::Exited(started[0], CRASH));
    assert_eq!(stage.status("a").state, ProcessState::Failed);
    assert_eq!(stage.route("a"), to(&replicas[1..]));
    assert!(stage.agent("a").live);
}

#[test]
fn a_restart_of_many_begins_each_when_its_own_exit_has_been_seen() {
    let (mut stage, replicas) = running(2);
    assert_eq!(
        stage.ask(Command::Restart(agent("a"))),
        [drain(replicas[0]), drain(replicas[1])]
    );
    assert_eq!(stage.route("a"), Route::Soon);
    let first = stage.ends_and_restarts(replicas[0], EndCause::Asked);
    stage.ready(&[first]);
    assert_eq!(stage.route("a"), to(&[first]));
    let second = stage.ends_and_restarts(replicas[1], EndCause::Asked);
    stage.ready(&[second]);
    assert_eq!(stage.route("a"), to(&[first, second]));
    assert_eq!(stage.agent("a").desired.current, Release(1));
}

#[test]
fn a_start_while_some_still_stop_is_refused_because_they_would_be_missing() {
    let (mut stage, replicas) = running(2);
    stage.ask(Command::Stop(agent("a")));
    stage.obey(&replicas[..1]);
    let start = Command::Start(agent("a"));
    let refused = stage.try_ask(start.clone());
    assert_eq!(refused, Err(Refusal::StillStopping(agent("a"))));
    stage.obey(&replicas[1..]);
    assert_eq!(spawns(&stage.ask(start)).len(), 2);
}
