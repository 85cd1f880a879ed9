//! Stops, restarts by hand, removals, and the end of everything.

use par_lifecycle::{Action, Beside, Command, Event, Refusal, Route, Wanted, What};
use par_model::control::EndCause;
use par_model::{ProcessState, RestartMode};

use crate::stage::{
    CRASH, SECOND, Stage, agent, deployment, drain, load_failed, only_spawn, settings,
};

fn running() -> (Stage, par_model::ReplicaId) {
    Stage::with_running(deployment(RestartMode::Always))
}

#[test]
fn stop_withdraws_the_route_drains_terminates_and_kills_in_this_order() {
    let (mut stage, replica) = running();
    assert_eq!(stage.ask(Command::Stop(agent("a"))), [drain(replica)]);
    assert_eq!(stage.route("a"), Route::Down);
    assert_eq!(stage.pass(10 * SECOND), [Action::Terminate(replica)]);
    assert_eq!(stage.pass(5 * SECOND), [Action::Kill(replica)]);
    assert_eq!(stage.status("a").state, ProcessState::Stopping);
    assert_eq!(stage.fleet.next_deadline(), None, "the killed always end");
    assert_eq!(stage.tell(Event::Exited(replica, CRASH)), []);
    assert_eq!(stage.status("a").state, ProcessState::Stopped);
    assert_eq!(stage.status("a").error, None);
    let told = [What::Draining, What::Stopped];
    assert!(stage.heard().ends_with(&told));
}

#[test]
fn an_agent_without_calls_is_terminated_as_soon_as_it_says_so() {
    let (mut stage, replica) = running();
    stage.ask(Command::Stop(agent("a")));
    assert_eq!(
        stage.tell(Event::Drained(replica)),
        [Action::Terminate(replica)]
    );
    assert_eq!(stage.tell(Event::Drained(replica)), []);
}

#[test]
fn an_agent_that_ends_while_it_drains_is_stopped_however_it_ended() {
    let (mut stage, replica) = running();
    stage.ask(Command::Stop(agent("a")));
    assert_eq!(stage.tell(Event::Exited(replica, CRASH)), []);
    assert_eq!(stage.status("a").state, ProcessState::Stopped);
}

#[test]
fn an_agent_that_still_starts_is_terminated_without_a_drain() {
    let mut stage = Stage::new(settings());
    let replica = stage.deploy("a", deployment(RestartMode::Always));
    assert_eq!(
        stage.ask(Command::Stop(agent("a"))),
        [Action::Terminate(replica)]
    );
    stage.tell(Event::Exited(replica, load_failed()));
    assert_eq!(stage.status("a").state, ProcessState::Stopped);
}

#[test]
fn an_agent_that_waits_for_its_restart_is_stopped_at_once() {
    let (mut stage, first) = running();
    let second = stage.ends_and_restarts(first, CRASH);
    stage.tell(Event::Exited(second, CRASH));
    assert_eq!(stage.ask(Command::Stop(agent("a"))), []);
    assert_eq!(stage.status("a").state, ProcessState::Stopped);
    assert!(stage.fleet.is_idle());
    assert_eq!(stage.pass(300 * SECOND), []);
}

#[test]
fn a_stop_given_twice_is_one_stop() {
    let (mut stage, replica) = running();
    stage.ask(Command::Stop(agent("a")));
    stage.pass(3 * SECOND);
    assert_eq!(stage.ask(Command::Stop(agent("a"))), []);
    assert_eq!(stage.pass(7 * SECOND), [Action::Terminate(replica)]);
    assert_eq!(stage.ask(Command::Stop(agent("a"))), []);
    assert_eq!(stage.pass(5 * SECOND), [Action::Kill(replica)]);
}

#[test]
fn what_failed_keeps_its_reason_when_it_is_stopped() {
    let mut stage = Stage::new(settings());
    let replica = stage.deploy("a", deployment(RestartMode::Always));
    stage.tell(Event::Exited(replica, load_failed()));
    assert_eq!(stage.ask(Command::Stop(agent("a"))), []);
    assert_eq!(stage.status("a").error, Some(load_failed()));
}

#[test]
fn a_restart_by_hand_starts_it_anew_when_the_exit_has_been_seen() {
    let (mut stage, first) = running();
    stage.ask(Command::Restart(agent("a")));
    assert_eq!(stage.route("a"), Route::Soon);
    let actions = stage.tell(Event::Exited(first, EndCause::Asked));
    let second = only_spawn(&actions);
    assert_eq!(stage.status("a").restart_count, 0, "it was by hand");
    assert_eq!(stage.route("a"), Route::Soon);

    stage.tell(Event::Exited(second, load_failed()));
    assert_eq!(stage.status("a").state, ProcessState::Failed, "at once");
    assert_eq!(stage.route("a"), Route::Down);
}

#[test]
fn a_restart_of_an_agent_at_rest_is_a_start() {
    let (mut stage, replica) = running();
    stage.ask(Command::Stop(agent("a")));
    stage.tell(Event::Exited(replica, EndCause::Asked));
    only_spawn(&stage.ask(Command::Restart(agent("a"))));
    assert_eq!(stage.route("a"), Route::Down);
}

#[test]
fn the_last_word_decides_what_follows_an_end_under_way() {
    let (mut stage, first) = running();
    stage.ask(Command::Stop(agent("a")));
    assert_eq!(stage.ask(Command::Restart(agent("a"))), []);
    only_spawn(&stage.tell(Event::Exited(first, EndCause::Asked)));

    let (mut stage, first) = running();
    stage.ask(Command::Restart(agent("a")));
    assert_eq!(stage.ask(Command::Stop(agent("a"))), []);
    assert_eq!(stage.tell(Event::Exited(first, EndCause::Asked)), []);
    assert_eq!(stage.status("a").state, ProcessState::Stopped);
}

#[test]
fn a_removed_agent_is_forgotten_when_its_exit_is_seen() {
    let (mut stage, replica) = running();
    stage.ask(Command::Remove(agent("a")));
    assert_eq!(stage.ask(Command::Stop(agent("a"))), []);
    let restart = Command::Restart(agent("a"));
    assert_eq!(
        stage.try_ask(restart),
        Err(Refusal::StillStopping(agent("a")))
    );
    assert_eq!(
        stage.tell(Event::Exited(replica, EndCause::Asked)),
        [Action::Forget(agent("a"))]
    );
    assert!(stage.fleet.status().is_empty());
    assert!(stage.fleet.routes().is_empty());
}

#[test]
fn a_removed_agent_at_rest_is_forgotten_at_once() {
    let (mut stage, first) = running();
    let second = stage.ends_and_restarts(first, CRASH);
    stage.tell(Event::Exited(second, CRASH));
    assert_eq!(
        stage.ask(Command::Remove(agent("a"))),
        [Action::Forget(agent("a"))]
    );
    assert_eq!(stage.fleet.next_deadline(), None);
}

#[test]
fn the_first_signal_stops_everything_and_nothing_new_may_start() {
    let (mut stage, a) = running();
    let b = stage.deploy("b", deployment(RestartMode::Always));
    stage.ask(Command::Restart(agent("b")));
    stage.ask(Command::StopAll);
    for command in [
        Command::Start(agent("a")),
        Command::Restart(agent("a")),
        Command::Deploy(agent("c"), deployment(RestartMode::Always), Beside::Refuse),
    ] {
        assert_eq!(stage.try_ask(command), Err(Refusal::ShuttingDown));
    }
    assert!(!stage.fleet.is_idle());
    assert_eq!(stage.tell(Event::Exited(a, CRASH)), []);
    assert_eq!(stage.tell(Event::Exited(b, EndCause::Asked)), []);
    assert!(stage.fleet.is_idle());
}

#[test]
fn the_second_signal_kills_what_still_lives() {
    let (mut stage, a) = running();
    let b = stage.deploy("b", deployment(RestartMode::Always));
    stage.ask(Command::StopAll);
    assert_eq!(
        stage.ask(Command::KillAll),
        [Action::Kill(a), Action::Kill(b)]
    );
    assert_eq!(stage.ask(Command::KillAll), [], "once is enough");
}

#[test]
fn the_end_of_everything_leaves_what_is_desired_and_a_stop_does_not() {
    for command in [Command::StopAll, Command::KillAll] {
        let (mut stage, replica) = running();
        let before = stage.agent("a").desired;
        stage.ask(command);
        stage.obey(&[replica]);
        assert_eq!(stage.agent("a").desired, before);
    }
    let (mut stage, _) = running();
    stage.ask(Command::Stop(agent("a")));
    assert_eq!(stage.agent("a").desired.wanted, Wanted::Stopped);
    stage.ask(Command::Restart(agent("a")));
    assert_eq!(stage.agent("a").desired.wanted, Wanted::Up);
}

#[test]
fn a_crash_changes_nothing_of_what_is_desired() {
    let (mut stage, replica) = Stage::with_running(deployment(RestartMode::Never));
    let before = stage.agent("a").desired;
    stage.tell(Event::Exited(replica, CRASH));
    assert_eq!(stage.agent("a").desired, before);
}

#[test]
fn an_agent_names_itself_as_changed_and_no_other() {
    let (mut stage, replica) = running();
    stage.deploy("b", deployment(RestartMode::Always));
    stage.fleet.take_changed();
    stage.tell(Event::Exited(replica, CRASH));
    assert_eq!(
        stage.fleet.take_changed().into_iter().collect::<Vec<_>>(),
        [agent("a")]
    );
    assert!(stage.fleet.take_changed().is_empty());
}
