//! What becomes of an agent that served and then ended by itself.

use std::time::Duration;

use par_lifecycle::{Action, Command, Deployment, Event, Route, What};
use par_model::control::EndCause;
use par_model::{ProcessState, ReplicaId, RestartMode, RestartPolicy};

use crate::stage::{
    CLEAN, CRASH, SECOND, Stage, agent, deployment, load_failed, only_spawn, settings,
};

#[test]
fn the_first_crash_is_followed_by_a_restart_at_once_and_callers_wait() {
    let (mut stage, first) = Stage::with_running(deployment(RestartMode::OnFailure));
    let port = stage.incarnation("a").port;
    let actions = stage.tell(Event::Exited(first, CRASH));
    let second = only_spawn(&actions);
    assert_ne!(second, first);
    assert_eq!(stage.incarnation("a").port, port);
    assert_eq!(stage.route("a"), Route::Soon);
    let status = stage.status("a");
    assert_eq!(status.state, ProcessState::Starting);
    assert_eq!(status.restart_count, 1);
    assert_eq!(status.error, Some(CRASH), "why it is not running yet");
}

/// Crashes, comes up again, and crashes at once.
fn crash_twice(stage: &mut Stage, first: ReplicaId) {
    let second = stage.ends_and_restarts(first, CRASH);
    stage.tell(Event::Ready(second));
    assert_eq!(stage.tell(Event::Exited(second, CRASH)), []);
}

#[test]
fn the_second_crash_without_a_stable_time_waits_and_callers_do_not() {
    let (mut stage, first) = Stage::with_running(deployment(RestartMode::OnFailure));
    crash_twice(&mut stage, first);
    let status = stage.status("a");
    assert_eq!(status.state, ProcessState::Crashed);
    assert_eq!(status.restart_at, Some(stage.now + 5 * SECOND));
    assert_eq!(status.error, Some(CRASH));
    assert_eq!(stage.route("a"), Route::Down);

    assert_eq!(stage.pass(4 * SECOND), []);
    only_spawn(&stage.pass(SECOND));
    assert_eq!(stage.status("a").restart_count, 2);
    assert_eq!(stage.route("a"), Route::Soon);
}

#[test]
fn failures_are_forgotten_only_after_a_stable_time_of_serving() {
    for (served, immediate) in [(29, false), (30, true)] {
        let (mut stage, first) = Stage::with_running(deployment(RestartMode::OnFailure));
        let second = stage.ends_and_restarts(first, CRASH);
        stage.pass(19 * SECOND);
        stage.tell(Event::Ready(second));
        stage.pass(served * SECOND);
        stage.tell(Event::Exited(second, CRASH));
        let restarted = stage.status("a").state == ProcessState::Starting;
        assert_eq!(restarted, immediate, "served for {served} s");
    }
}

#[test]
fn an_agent_that_crashes_too_often_stays_down_with_its_last_reason() {
    let (mut stage, mut replica) = Stage::with_running(deployment(RestartMode::Always));
    for _ in 0..3 {
        stage.tell(Event::Exited(replica, CRASH));
        stage.pass(300 * SECOND);
        replica = stage.incarnation("a").replica;
        stage.tell(Event::Ready(replica));
    }
    let last = EndCause::Signal {
        signal: 9,
        name: "SIGKILL".to_owned(),
    };
    stage.tell(Event::Exited(replica, last.clone()));
    let status = stage.status("a");
    assert_eq!(status.state, ProcessState::Crashed);
    assert_eq!(status.error, Some(last));
    assert_eq!(status.restart_at, None);
    assert_eq!(status.restart_count, 3);
    assert!(stage.fleet.is_idle());
}

#[test]
fn without_a_restart_policy_a_crash_is_final_and_a_clean_exit_is_a_stop() {
    for (cause, state) in [
        (CRASH, ProcessState::Crashed),
        (EndCause::Asked, ProcessState::Crashed),
        (CLEAN, ProcessState::Stopped),
    ] {
        let (mut stage, replica) = Stage::with_running(deployment(RestartMode::Never));
        stage.tell(Event::Exited(replica, cause));
        assert_eq!(stage.status("a").state, state);
        assert_eq!(stage.status("a").restart_at, None);
    }
}

#[test]
fn a_clean_exit_is_restarted_only_when_the_agent_shall_always_run() {
    for (mode, state) in [
        (RestartMode::OnFailure, ProcessState::Stopped),
        (RestartMode::Always, ProcessState::Starting),
    ] {
        let (mut stage, replica) = Stage::with_running(deployment(mode));
        stage.tell(Event::Exited(replica, CLEAN));
        assert_eq!(stage.status("a").state, state);
    }
}

#[test]
fn a_worker_that_ends_as_if_asked_has_crashed_when_nobody_asked() {
    let (mut stage, replica) = Stage::with_running(deployment(RestartMode::OnFailure));
    stage.ends_and_restarts(replica, EndCause::Asked);
}

#[test]
fn a_restart_that_does_not_come_up_counts_as_one_more_failure() {
    let (mut stage, first) = Stage::with_running(deployment(RestartMode::OnFailure));
    let second = stage.ends_and_restarts(first, CRASH);
    assert_eq!(stage.tell(Event::Exited(second, load_failed())), []);
    let status = stage.status("a");
    assert_eq!(status.state, ProcessState::Crashed);
    assert_eq!(status.error, Some(load_failed()));
    assert_eq!(status.restart_at, Some(stage.now + 5 * SECOND));
}

#[test]
fn a_restart_that_hangs_is_ended_and_counts_as_one_more_failure() {
    let (mut stage, first) = Stage::with_running(deployment(RestartMode::OnFailure));
    let second = stage.ends_and_restarts(first, CRASH);
    stage.tell(Event::Prepared(second));
    assert_eq!(stage.pass(20 * SECOND), [Action::Terminate(second)]);
    assert_eq!(stage.route("a"), Route::Down);
    stage.tell(Event::Exited(second, EndCause::Asked));
    let after = 20 * SECOND;
    let status = stage.status("a");
    assert_eq!(status.state, ProcessState::Crashed);
    assert_eq!(status.error, Some(EndCause::StartTimedOut { after }));
}

#[test]
fn a_start_by_hand_forgets_all_failures_and_that_the_agent_ever_served() {
    let (mut stage, first) = Stage::with_running(deployment(RestartMode::OnFailure));
    crash_twice(&mut stage, first);
    let replica = only_spawn(&stage.ask(Command::Start(agent("a"))));
    assert_eq!(stage.status("a").restart_count, 0);
    assert_eq!(stage.route("a"), Route::Down);
    stage.tell(Event::Exited(replica, CRASH));
    assert_eq!(stage.status("a").state, ProcessState::Failed);
}

#[test]
fn a_delay_beyond_the_end_of_time_is_just_a_long_one() {
    let endless = Deployment {
        restart: RestartPolicy {
            delay: Duration::MAX,
            max_delay: Duration::MAX,
            ..RestartPolicy::default()
        },
        ..deployment(RestartMode::OnFailure)
    };
    let (mut stage, first) = Stage::with_running(endless);
    crash_twice(&mut stage, first);
    assert!(stage.status("a").restart_at > Some(stage.now));
}

#[test]
fn too_many_restarts_in_a_period_are_too_many_however_stable_it_was_between_them() {
    let intense = Deployment {
        restart: RestartPolicy {
            most_in_period: 2,
            period: 600 * SECOND,
            ..RestartPolicy::default()
        },
        ..deployment(RestartMode::OnFailure)
    };
    for (between, survives) in [(100, false), (301, true)] {
        let (mut stage, mut replica) = Stage::with_running(intense);
        for _ in 0..2 {
            stage.pass(between * SECOND);
            replica = stage.ends_and_restarts(replica, CRASH);
            stage.tell(Event::Ready(replica));
        }
        stage.pass(between * SECOND);
        stage.tell(Event::Exited(replica, load_failed()));
        let status = stage.status("a");
        assert_eq!(status.state == ProcessState::Starting, survives);
        assert_eq!(status.error, Some(load_failed()), "with its traceback");
        if !survives {
            assert_eq!(status.state, ProcessState::Crashed);
            assert_eq!(stage.heard().last(), Some(&What::Crashed(load_failed())));
        }
    }
}

#[test]
fn a_worker_that_lives_and_does_not_answer_is_killed_and_restarted_by_policy() {
    let (mut stage, replica) = Stage::with_running(deployment(RestartMode::OnFailure));
    let after = 7 * SECOND;
    let silent = Event::Silent { replica, after };
    assert_eq!(stage.tell(silent.clone()), [Action::Kill(replica)]);
    assert_eq!(stage.tell(silent), [], "once is enough");
    assert_eq!(stage.route("a"), Route::Down);
    assert_eq!(stage.status("a").error, Some(EndCause::Silent { after }));
    stage.heard();
    let again = stage.ends_and_restarts(replica, CRASH);
    assert_eq!(stage.heard()[0], What::Exited(EndCause::Silent { after }));
    assert_eq!(stage.status("a").restart_count, 1);
    stage.tell(Event::Ready(again));
    assert_eq!(stage.status("a").state, ProcessState::Running);
}

#[test]
fn a_worker_that_falls_silent_before_it_answered_fails_with_that_reason() {
    let mut stage = Stage::new(settings());
    let replica = stage.deploy("a", deployment(RestartMode::Always));
    let after = SECOND;
    let killed = stage.tell(Event::Silent { replica, after });
    assert_eq!(killed, [Action::Kill(replica)]);
    stage.tell(Event::Exited(replica, CRASH));
    assert_eq!(stage.status("a").state, ProcessState::Failed);
    assert_eq!(stage.status("a").error, Some(EndCause::Silent { after }));
}

#[test]
fn a_silent_worker_that_was_asked_to_end_is_killed_at_once_and_has_ended_as_asked() {
    for drained in [false, true] {
        let (mut stage, replica) = Stage::with_running(deployment(RestartMode::Always));
        stage.ask(Command::Stop(agent("a")));
        if drained {
            stage.tell(Event::Drained(replica));
        }
        let silent = Event::Silent {
            replica,
            after: SECOND,
        };
        assert_eq!(stage.tell(silent), [Action::Kill(replica)]);
        stage.tell(Event::Exited(replica, CRASH));
        assert_eq!(stage.status("a").state, ProcessState::Stopped);
    }
}

#[test]
fn people_hear_that_it_ended_and_when_it_is_started_again() {
    let (mut stage, first) = Stage::with_running(deployment(RestartMode::OnFailure));
    stage.heard();
    let second = stage.ends_and_restarts(first, CRASH);
    let at_once = What::Restarting {
        after: Duration::ZERO,
    };
    assert_eq!(
        stage.heard(),
        [What::Exited(CRASH), at_once, What::Starting]
    );
    stage.tell(Event::Exited(second, CRASH));
    let later = What::Restarting { after: 5 * SECOND };
    assert_eq!(stage.heard(), [What::Exited(CRASH), later]);
    stage.ask(Command::Stop(agent("a")));
    assert_eq!(stage.heard(), [What::Stopped]);
}
