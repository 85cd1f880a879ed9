//! Agents that nobody calls.

use par_lifecycle::{Action, Command, Deployment, Event, Idle, Route, Wanted, What};
use par_model::{ProcessState, ReplicaId};

use crate::stage::{
    CRASH, SECOND, Stage, agent, drain, load_failed, only_spawn, release, retire, spawns, to,
};

/// It is stopped when it has been frozen for a minute.
fn sleepy(replicas: u32) -> Deployment {
    Deployment {
        stop_when_frozen_for: Some(60 * SECOND),
        ..release(1, replicas)
    }
}

fn wake(stage: &mut Stage) -> Vec<Action> {
    stage.ask(Command::Wake(agent("a")))
}

/// On it, `a` is drained to sleep.
fn falling_asleep() -> (Stage, ReplicaId) {
    let (mut stage, replica) = Stage::with_running(sleepy(1));
    stage.tell(Event::Quiet(replica));
    assert_eq!(stage.pass(60 * SECOND), [drain(replica)]);
    (stage, replica)
}

fn asleep() -> Stage {
    let (mut stage, replica) = falling_asleep();
    stage.tell(Event::Drained(replica));
    stage.obey(&[replica]);
    stage.heard();
    stage
}

#[test]
fn an_agent_that_nobody_calls_is_frozen_and_still_routed_to() {
    let (mut stage, replica) = Stage::with_running(release(1, 1));
    stage.heard();
    let frozen = stage.tell(Event::Quiet(replica));
    assert_eq!(frozen, [Action::Freeze(replica)]);
    assert_eq!(stage.status("a").idle, Some(Idle::Frozen));
    assert_eq!(stage.status("a").state, ProcessState::Running);
    assert_eq!(stage.route("a"), to(&[replica]));
    assert_eq!(stage.tell(Event::Quiet(replica)), [], "once is enough");
    assert_eq!(
        stage.fleet.next_deadline(),
        None,
        "it may stay frozen for ever"
    );

    stage.tell(Event::Busy(replica));
    stage.tell(Event::Busy(replica));
    assert_eq!(stage.status("a").idle, None);
    assert_eq!(stage.heard(), [What::Frozen, What::Thawed]);
}

#[test]
fn an_agent_that_does_not_serve_is_not_frozen() {
    let (mut stage, replica) = Stage::with_running(release(1, 1));
    stage.ask(Command::Stop(agent("a")));
    assert_eq!(stage.tell(Event::Quiet(replica)), []);
    let again = only_spawn(&{
        stage.obey(&[replica]);
        stage.ask(Command::Start(agent("a")))
    });
    assert_eq!(stage.tell(Event::Quiet(again)), []);
}

#[test]
fn an_agent_that_was_frozen_for_long_is_stopped_and_the_next_call_starts_it() {
    let (mut stage, replica) = Stage::with_running(sleepy(1));
    stage.tell(Event::Quiet(replica));
    assert_eq!(stage.pass(59 * SECOND), []);
    assert_eq!(stage.pass(SECOND), [drain(replica)]);
    assert_eq!(stage.route("a"), Route::Asleep);
    assert_eq!(stage.status("a").state, ProcessState::Stopping);
    stage.obey(&[replica]);
    assert_eq!(stage.status("a").state, ProcessState::Stopped);
    assert_eq!(stage.status("a").idle, Some(Idle::Stopped));
    assert_eq!(stage.route("a"), Route::Asleep);
    assert_eq!(stage.agent("a").desired.wanted, Wanted::Up);
    assert!(stage.fleet.is_idle());

    let awake = only_spawn(&wake(&mut stage));
    assert_eq!(stage.route("a"), Route::Soon, "callers wait");
    stage.ready(&[awake]);
    assert_eq!(stage.route("a"), to(&[awake]));
    let told = stage.heard();
    let of_sleep = [What::Slept, What::Waking, What::Starting, What::Ready];
    assert!(told.ends_with(&of_sleep), "{told:?}");
}

#[test]
fn a_call_before_that_keeps_it_awake() {
    let (mut stage, replica) = Stage::with_running(sleepy(1));
    stage.tell(Event::Quiet(replica));
    stage.pass(59 * SECOND);
    stage.tell(Event::Busy(replica));
    assert_eq!(stage.pass(300 * SECOND), []);
    assert_eq!(stage.fleet.next_deadline(), None);
}

#[test]
fn many_calls_share_one_wake_up() {
    let mut stage = asleep();
    only_spawn(&wake(&mut stage));
    stage.heard();
    assert_eq!(wake(&mut stage), []);
    assert_eq!(stage.heard(), []);
}

#[test]
fn a_call_while_it_drains_to_sleep_brings_it_back_when_its_exit_has_been_seen() {
    let (mut stage, replica) = falling_asleep();
    assert_eq!(wake(&mut stage), []);
    assert_eq!(wake(&mut stage), []);
    assert_eq!(stage.route("a"), Route::Soon);
    let awake = only_spawn(&stage.obey(&[replica]));
    assert_eq!(stage.route("a"), Route::Soon);
    stage.ready(&[awake]);
    assert_eq!(stage.status("a").restart_count, 0, "that was no crash");
    let told = stage.heard();
    assert_eq!(told.iter().filter(|it| **it == What::Waking).count(), 1);
}

#[test]
fn a_wake_up_that_fails_is_a_crash_of_an_agent_that_has_served() {
    let (mut draining, replica) = falling_asleep();
    wake(&mut draining);
    let awake = only_spawn(&draining.obey(&[replica]));
    let mut stage = asleep();
    let other = only_spawn(&wake(&mut stage));
    for (mut stage, awake) in [(draining, awake), (stage, other)] {
        let again = stage.ends_and_restarts(awake, CRASH);
        assert_eq!(stage.status("a").restart_count, 1);
        stage.tell(Event::Exited(again, load_failed()));
        assert_eq!(stage.status("a").state, ProcessState::Crashed);
        assert_eq!(stage.route("a"), Route::Down);
        assert_eq!(wake(&mut stage), [], "it is not asleep");
    }
}

#[test]
fn a_wake_up_without_a_free_port_is_refused_and_the_agent_sleeps_on() {
    let mut stage = asleep();
    let deploy = Command::Deploy(agent("b"), release(1, 12), par_lifecycle::Beside::Refuse);
    let others = spawns(&stage.ask(deploy));
    let refused = stage.try_ask(Command::Wake(agent("a")));
    assert_eq!(refused, Err(par_lifecycle::Refusal::NoPortFree));
    assert_eq!(stage.route("a"), Route::Asleep);
    stage.ask(Command::Remove(agent("b")));
    stage.obey(&others);
    only_spawn(&wake(&mut stage));
    assert_eq!(stage.incarnation("a").port, 8001);
}

#[test]
fn an_agent_sleeps_only_when_all_its_replicas_have_been_frozen_for_long() {
    let (mut stage, replicas) = Stage::with_all_running(sleepy(2));
    stage.tell(Event::Quiet(replicas[0]));
    assert_eq!(stage.pass(300 * SECOND), []);
    stage.tell(Event::Quiet(replicas[1]));
    assert_eq!(stage.pass(59 * SECOND), []);
    assert_eq!(stage.pass(SECOND), [drain(replicas[0]), drain(replicas[1])]);
    stage.obey(&replicas[..1]);
    assert_eq!(stage.route("a"), Route::Asleep);
    let first = only_spawn(&wake(&mut stage));
    let second = only_spawn(&stage.obey(&replicas[1..]));
    stage.ready(&[first, second]);
    assert_eq!(stage.route("a"), to(&[first, second]));
}

#[test]
fn an_agent_that_has_sessions_is_frozen_and_not_stopped() {
    let (mut stage, replica) = Stage::with_running(sleepy(1));
    stage.tell(Event::Sessions { replica, any: true });
    stage.tell(Event::Quiet(replica));
    assert_eq!(stage.pass(300 * SECOND), []);
    stage.tell(Event::Sessions {
        replica,
        any: false,
    });
    assert_eq!(stage.tell(Event::Tick), [drain(replica)]);
}

#[test]
fn nothing_is_put_to_sleep_while_another_release_comes_in() {
    let (mut stage, replica) = Stage::with_running(sleepy(1));
    stage.tell(Event::Quiet(replica));
    let canary = stage.canary(release(2, 1), 100);
    stage.ready(&canary);
    assert_eq!(stage.pass(300 * SECOND), []);
    stage.ask(Command::Abandon(agent("a")));
    assert!(stage.tell(Event::Tick).contains(&drain(replica)));
}

#[test]
fn a_release_comes_in_beside_one_that_sleeps_and_a_call_wakes_the_one_before() {
    let mut stage = asleep();
    let new = stage.roll(sleepy(1));
    assert_eq!(stage.route("a"), Route::Asleep);
    let old = only_spawn(&wake(&mut stage));
    stage.ready(&[old]);
    assert_eq!(stage.route("a"), to(&[old]));
    assert_eq!(stage.tell(Event::Ready(new[0])), [retire(old)]);
    assert_eq!(stage.route("a"), to(&new));
}

#[test]
fn one_that_sleeps_sleeps_on_when_what_came_in_fails_and_is_forgotten_when_it_does_not() {
    let mut stage = asleep();
    let new = stage.roll(release(2, 1));
    stage.tell(Event::Exited(new[0], load_failed()));
    assert_eq!(stage.route("a"), Route::Asleep);
    let new = stage.roll(release(3, 1));
    assert_eq!(stage.tell(Event::Ready(new[0])), []);
    assert_eq!(stage.route("a"), to(&new));
}

#[test]
fn a_stop_by_hand_is_not_undone_by_a_call() {
    let mut stage = asleep();
    assert_eq!(stage.ask(Command::Stop(agent("a"))), []);
    assert_eq!(stage.route("a"), Route::Down);
    assert_eq!(wake(&mut stage), []);
    assert_eq!(stage.heard(), [What::Stopped]);

    let (mut stage, replica) = falling_asleep();
    wake(&mut stage);
    stage.ask(Command::Stop(agent("a")));
    assert_eq!(wake(&mut stage), []);
    assert_eq!(stage.obey(&[replica]), []);
    assert_eq!(stage.status("a").state, ProcessState::Stopped);
    assert_eq!(stage.status("a").idle, None);
}

#[test]
fn a_start_or_restart_by_hand_wakes_it_too() {
    for command in [Command::Start(agent("a")), Command::Restart(agent("a"))] {
        let mut stage = asleep();
        let awake = only_spawn(&stage.ask(command));
        stage.tell(Event::Exited(awake, CRASH));
        assert_eq!(
            stage.status("a").state,
            ProcessState::Failed,
            "with a reason"
        );
    }
}

#[test]
fn an_agent_that_crashes_while_it_drains_to_sleep_sleeps() {
    let (mut stage, replica) = falling_asleep();
    assert_eq!(stage.tell(Event::Exited(replica, CRASH)), []);
    assert_eq!(stage.route("a"), Route::Asleep);
}

#[test]
fn a_frozen_agent_that_ends_is_restarted() {
    let (mut stage, replica) = Stage::with_running(sleepy(1));
    stage.tell(Event::Quiet(replica));
    let again = stage.ends_and_restarts(replica, CRASH);
    stage.ready(&[again]);
    assert_eq!(stage.status("a").idle, None);
    assert_eq!(stage.pass(300 * SECOND), []);
}

#[test]
fn a_stable_time_of_serving_counts_also_if_it_ended_in_sleep() {
    let (mut stage, first) = Stage::with_running(sleepy(1));
    let second = stage.ends_and_restarts(first, CRASH);
    stage.ready(&[second]);
    stage.tell(Event::Quiet(second));
    stage.pass(60 * SECOND);
    stage.obey(&[second]);
    let awake = only_spawn(&wake(&mut stage));
    stage.ready(&[awake]);
    stage.ends_and_restarts(awake, CRASH);
}

#[test]
fn the_end_of_everything_leaves_a_sleeper_wanted() {
    let mut stage = asleep();
    stage.ask(Command::StopAll);
    assert_eq!(stage.agent("a").desired.wanted, Wanted::Up);
    let wake = stage.try_ask(Command::Wake(agent("a")));
    assert_eq!(wake, Err(par_lifecycle::Refusal::ShuttingDown));
}

#[test]
fn a_start_by_hand_brings_back_those_too_that_are_about_to_sleep() {
    let (mut stage, replicas) = Stage::with_all_running(sleepy(2));
    for replica in &replicas {
        stage.tell(Event::Quiet(*replica));
    }
    stage.pass(60 * SECOND);
    stage.obey(&replicas[..1]);
    let first = only_spawn(&stage.ask(Command::Start(agent("a"))));
    let second = only_spawn(&stage.obey(&replicas[1..]));
    stage.ready(&[first, second]);
    assert_eq!(stage.route("a"), to(&[first, second]));
}
