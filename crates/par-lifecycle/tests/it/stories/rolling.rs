//! A release that comes in beside another.

use par_lifecycle::{
    Action, Beside, Command, Event, IncomingStatus, Refusal, Release, Route, What,
};
use par_model::control::EndCause;
use par_model::{ProcessState, ReplicaId};

use crate::stage::{
    CRASH, SECOND, Stage, agent, drain, load_failed, only_spawn, release, retire, spawns, to,
};

/// The first release of `a` runs.
fn running(replicas: u32) -> (Stage, Vec<ReplicaId>) {
    Stage::with_all_running(release(1, replicas))
}

fn incoming(stage: &Stage) -> IncomingStatus {
    let status = stage.agent("a");
    status.incoming.expect("a release comes in")
}

#[test]
fn a_release_takes_the_route_when_it_answers_and_the_one_before_drains() {
    let (mut stage, old) = running(1);
    let new = stage.roll(release(2, 1));
    assert_eq!(stage.route("a"), to(&old));
    assert_eq!(stage.agent("a").desired.current, Release(1));
    assert_eq!(incoming(&stage).release, Release(2));

    assert_eq!(stage.tell(Event::Ready(new[0])), [retire(old[0])]);
    assert_eq!(stage.route("a"), to(&new));
    let status = stage.agent("a");
    assert_eq!(status.desired.current, Release(2));
    assert_eq!(status.incoming, None);
    assert_eq!(status.leaving[0].state, ProcessState::Stopping);
    assert_eq!(status.leaving[0].release, Release(1));

    stage.tell(Event::Drained(old[0]));
    stage.obey(&old);
    assert_eq!(stage.agent("a").leaving, []);
}

#[test]
fn a_release_that_never_comes_up_is_let_go_and_the_one_before_simply_goes_on() {
    let (mut stage, old) = running(1);
    let new = stage.roll(release(2, 1));
    assert_eq!(stage.tell(Event::Exited(new[0], load_failed())), []);
    assert_eq!(stage.route("a"), to(&old));
    let status = stage.agent("a");
    assert_eq!(status.failed, Some((Release(2), load_failed())));
    assert_eq!(status.incoming, None);
    assert_eq!(status.desired.current, Release(1));
    assert_eq!(stage.status("a").state, ProcessState::Running);
    assert_eq!(stage.status("a").restart_count, 0);
}

#[test]
fn a_release_that_hangs_is_let_go_when_its_exit_has_been_seen() {
    let (mut stage, old) = running(1);
    let new = stage.roll(release(2, 1));
    stage.tell(Event::Prepared(new[0]));
    stage.pass(20 * SECOND);
    assert_eq!(stage.agent("a").failed, None);
    stage.obey(&new);
    let timed_out = EndCause::StartTimedOut { after: 20 * SECOND };
    assert_eq!(stage.agent("a").failed, Some((Release(2), timed_out)));
    assert_eq!(stage.route("a"), to(&old));
}

#[test]
fn all_replicas_of_a_release_take_over_at_once_or_none_does() {
    let (mut stage, old) = running(2);
    let new = stage.roll(release(2, 3));
    stage.ready(&new[..2]);
    assert_eq!(stage.route("a"), to(&old));
    let drained = stage.tell(Event::Ready(new[2]));
    assert_eq!(drained, [retire(old[0]), retire(old[1])]);
    assert_eq!(stage.route("a"), to(&new));
    assert_eq!(stage.agent("a").desired.replicas, 3);
}

#[test]
fn one_replica_that_fails_is_the_failure_of_its_release_and_the_others_are_ended() {
    let (mut stage, old) = running(1);
    let new = stage.roll(release(2, 3));
    stage.tell(Event::Ready(new[0]));
    let ended = stage.tell(Event::Exited(new[1], load_failed()));
    let terminate = Action::Terminate(new[2]);
    assert_eq!(ended, [retire(new[0]), terminate]);
    assert_eq!(stage.route("a"), to(&old));
    assert_eq!(stage.agent("a").failed, Some((Release(2), load_failed())));
    assert_eq!(stage.agent("a").desired.replicas, 1);
}

#[test]
fn a_replica_that_crashes_after_it_has_answered_is_restarted_before_its_release_is_live() {
    let (mut stage, _) = running(1);
    let new = stage.roll(release(2, 2));
    stage.tell(Event::Ready(new[0]));
    let again = stage.ends_and_restarts(new[0], CRASH);
    stage.tell(Event::Ready(new[1]));
    assert_eq!(stage.agent("a").desired.current, Release(1));
    stage.tell(Event::Ready(again));
    assert_eq!(stage.route("a"), to(&[again, new[1]]));
}

#[test]
fn a_later_release_takes_the_place_of_one_that_still_comes_in() {
    let (mut stage, old) = running(1);
    let second = stage.roll(release(2, 1));
    let third = stage.roll(release(3, 1));
    assert_eq!(
        stage.agent("a").failed,
        Some((Release(2), EndCause::Superseded))
    );
    assert_eq!(stage.tell(Event::Ready(second[0])), [], "too late");
    assert_eq!(stage.route("a"), to(&old));
    stage.tell(Event::Ready(third[0]));
    assert_eq!(stage.route("a"), to(&third));
    assert_eq!(stage.agent("a").desired.current, Release(3));
}

#[test]
fn the_one_before_is_restarted_by_its_policy_while_another_comes_in() {
    let (mut stage, old) = running(1);
    let new = stage.roll(release(2, 1));
    let again = stage.ends_and_restarts(old[0], CRASH);
    assert_eq!(stage.route("a"), Route::Soon);
    stage.tell(Event::Ready(again));
    assert_eq!(stage.route("a"), to(&[again]));
    stage.tell(Event::Exited(again, CRASH));
    assert_eq!(stage.route("a"), Route::Down);
    assert_eq!(
        stage.tell(Event::Ready(new[0])),
        [],
        "what waits is forgotten"
    );
    assert_eq!(stage.route("a"), to(&new));
    assert_eq!(stage.fleet.next_deadline(), None);
}

#[test]
fn a_release_comes_in_beside_one_that_stops_and_what_is_stopped_stays_so_if_it_fails() {
    let (mut stage, old) = running(1);
    stage.ask(Command::Stop(agent("a")));
    let second = stage.roll(release(2, 1));
    stage.tell(Event::Exited(second[0], load_failed()));
    stage.obey(&old);
    assert_eq!(stage.status("a").state, ProcessState::Stopped);
    assert_eq!(
        stage.agent("a").desired.wanted,
        par_lifecycle::Wanted::Stopped
    );
}

#[test]
fn a_release_that_comes_in_beside_one_that_stops_makes_the_agent_wanted_again() {
    let (mut stage, old) = running(1);
    stage.ask(Command::Stop(agent("a")));
    let new = stage.roll(release(2, 1));
    stage.tell(Event::Ready(new[0]));
    stage.obey(&old);
    assert_eq!(stage.route("a"), to(&new));
    assert_eq!(stage.agent("a").desired.wanted, par_lifecycle::Wanted::Up);
    assert_eq!(stage.agent("a").leaving, []);
}

#[test]
fn an_agent_at_rest_is_replaced_at_once() {
    let (mut stage, old) = running(2);
    stage.ask(Command::Stop(agent("a")));
    stage.obey(&old);
    let new = stage.roll(release(2, 1));
    let status = stage.agent("a");
    assert_eq!(status.incoming, None);
    assert_eq!(
        (status.desired.current, status.desired.replicas),
        (Release(2), 1)
    );
    stage.tell(Event::Exited(new[0], load_failed()));
    assert_eq!(stage.status("a").state, ProcessState::Failed);
}

#[test]
fn a_release_that_comes_in_beside_one_that_waits_for_its_restart_leaves_it_its_chance() {
    let (mut stage, old) = running(1);
    let again = stage.ends_and_restarts(old[0], CRASH);
    stage.tell(Event::Exited(again, CRASH));
    let new = stage.roll(release(2, 1));
    let restarted = only_spawn(&stage.pass(5 * SECOND));
    stage.tell(Event::Ready(restarted));
    assert_eq!(stage.route("a"), to(&[restarted]));
    stage.tell(Event::Exited(new[0], load_failed()));
    assert_eq!(stage.route("a"), to(&[restarted]));
}

#[test]
fn a_stop_lets_go_what_comes_in_and_it_does_not_come_back() {
    let (mut stage, old) = running(1);
    let new = stage.roll(release(2, 1));
    stage.ask(Command::Stop(agent("a")));
    assert_eq!(stage.agent("a").failed, Some((Release(2), EndCause::Asked)));
    stage.obey(&old);
    stage.obey(&new);
    assert!(stage.fleet.is_idle());
    assert_eq!(stage.agent("a").desired.current, Release(1));
    let started = spawns(&stage.ask(Command::Start(agent("a"))));
    stage.ready(&started);
    assert_eq!(stage.incarnation("a").release, Release(1));
}

#[test]
fn what_comes_in_can_be_abandoned() {
    let (mut stage, old) = running(1);
    let new = stage.roll(release(2, 1));
    stage.ask(Command::Abandon(agent("a")));
    assert_eq!(
        stage.agent("a").failed,
        Some((Release(2), EndCause::Abandoned))
    );
    stage.obey(&new);
    assert_eq!(stage.route("a"), to(&old));
    let again = stage.try_ask(Command::Abandon(agent("a")));
    assert_eq!(again, Err(Refusal::NoCanary(agent("a"))));
}

#[test]
fn a_release_for_which_there_are_too_few_ports_is_refused_and_changes_nothing() {
    let (mut stage, _) = running(10);
    let first = stage.roll(release(2, 1));
    let before = stage.agent("a");
    let deploy = Command::Deploy(agent("a"), release(3, 2), Beside::Roll);
    assert_eq!(stage.try_ask(deploy), Err(Refusal::NoPortFree));
    assert_eq!(stage.agent("a"), before);
    assert_eq!(
        incoming(&stage).replicas[0]
            .incarnation
            .map(|it| it.replica),
        Some(first[0])
    );
}

#[test]
fn a_removed_agent_is_forgotten_when_nothing_of_any_release_lives() {
    let (mut stage, first) = running(1);
    let second = stage.roll(release(2, 1));
    stage.ready(&second);
    let third = stage.roll(release(3, 1));
    stage.ask(Command::Remove(agent("a")));
    assert_eq!(stage.route("a"), Route::Down);
    assert_eq!(stage.obey(&third), []);
    assert_eq!(stage.obey(&first), []);
    let forget = Action::Forget(agent("a"));
    assert_eq!(stage.obey(&second), [forget]);
}

#[test]
fn people_hear_of_a_release_before_its_replicas_and_of_its_outcome_last() {
    let (mut stage, _) = running(1);
    stage.heard();
    let second = stage.roll(release(2, 1));
    assert_eq!(stage.heard(), [What::ReleaseStarted, What::Starting]);
    let third = stage.roll(release(3, 1));
    let superseded = What::ReleaseFailed(EndCause::Superseded);
    assert_eq!(
        stage.heard(),
        [superseded, What::ReleaseStarted, What::Starting]
    );
    stage.obey(&second);
    assert_eq!(stage.heard(), [What::Stopped]);
    stage.ready(&third);
    assert_eq!(
        stage.heard(),
        [What::Ready, What::ReleaseLive, What::Draining]
    );
}

#[test]
fn what_is_told_of_a_replica_names_its_own_release() {
    let (mut stage, old) = running(1);
    let new = stage.roll(release(2, 1));
    stage.heard();
    stage.ready(&new);
    stage.obey(&old);
    let notes = stage.heard_notes();
    let about = |it: &par_lifecycle::Note| it.replica.map(|id| (id == old[0], it.release));
    let about: Vec<_> = notes.iter().filter_map(about).collect();
    assert_eq!(
        about,
        [(false, Release(2)), (true, Release(1)), (true, Release(1))]
    );
}

#[test]
fn what_finishes_its_calls_because_another_has_its_place_hurries_when_the_agent_is_stopped() {
    let (mut stage, old) = running(1);
    let new = stage.roll(release(2, 1));
    assert_eq!(stage.tell(Event::Ready(new[0])), [retire(old[0])]);
    let stopped = stage.ask(Command::Stop(agent("a")));
    assert_eq!(stopped, [drain(old[0]), drain(new[0])]);
    let ended = stage.pass(10 * SECOND);
    assert!(ended.contains(&Action::Terminate(old[0])), "{ended:?}");
}
