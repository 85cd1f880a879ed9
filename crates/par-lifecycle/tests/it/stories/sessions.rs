//! Sessions stay with the release on which they began.

use par_lifecycle::{Command, Event, Route, Targets, What};
use par_model::{ProcessState, ReplicaId};

use crate::stage::{CRASH, SECOND, Stage, agent, drain, release, retire, to};

/// The second release of `a` serves, and the first stays for its sessions.
fn retiring() -> (Stage, ReplicaId, ReplicaId) {
    let (mut stage, old) = Stage::with_running(release(1, 1));
    stage.tell(Event::Sessions {
        replica: old,
        any: true,
    });
    let new = stage.roll(release(2, 1))[0];
    assert_eq!(stage.tell(Event::Ready(new)), []);
    (stage, old, new)
}

fn with_leaving(new: ReplicaId, old: ReplicaId) -> Route {
    Route::Ready(Targets {
        groups: vec![(1000, vec![new])],
        leaving: vec![old],
    })
}

#[test]
fn a_replica_with_sessions_stays_for_them_and_gets_no_other_calls() {
    let (mut stage, old, new) = retiring();
    assert_eq!(stage.route("a"), with_leaving(new, old));
    assert_eq!(stage.agent("a").leaving[0].state, ProcessState::Stopping);
    assert_eq!(stage.heard().last(), Some(&What::Retiring));

    let ended = Event::Sessions {
        replica: old,
        any: false,
    };
    assert_eq!(stage.tell(ended), [retire(old)]);
    assert_eq!(stage.route("a"), to(&[new]));
    stage.obey(&[old]);
    assert_eq!(stage.agent("a").leaving, []);
}

#[test]
fn sessions_that_do_not_end_are_ended_in_time() {
    let (mut stage, old, new) = retiring();
    assert_eq!(stage.pass(59 * SECOND), []);
    assert_eq!(stage.pass(SECOND), [drain(old)]);
    assert_eq!(stage.route("a"), to(&[new]));
}

#[test]
fn sessions_that_ended_before_keep_nobody() {
    let (mut stage, old) = Stage::with_running(release(1, 1));
    for any in [true, false] {
        stage.tell(Event::Sessions { replica: old, any });
    }
    let new = stage.roll(release(2, 1))[0];
    assert_eq!(stage.tell(Event::Ready(new)), [retire(old)]);
}

#[test]
fn sessions_of_an_incarnation_end_with_it() {
    let (mut stage, old) = Stage::with_running(release(1, 1));
    stage.tell(Event::Sessions {
        replica: old,
        any: true,
    });
    let again = stage.ends_and_restarts(old, CRASH);
    stage.ready(&[again]);
    let new = stage.roll(release(2, 1))[0];
    assert_eq!(stage.tell(Event::Ready(new)), [retire(again)]);
}

#[test]
fn a_replica_that_ends_while_it_stays_for_its_sessions_is_forgotten() {
    let (mut stage, old, new) = retiring();
    assert_eq!(stage.tell(Event::Exited(old, CRASH)), []);
    assert_eq!(stage.route("a"), to(&[new]));
    assert_eq!(stage.agent("a").leaving, []);
    assert_eq!(stage.fleet.next_deadline(), None);
}

#[test]
fn a_replica_that_is_silent_while_it_stays_is_killed() {
    let (mut stage, old, _) = retiring();
    let silent = Event::Silent {
        replica: old,
        after: SECOND,
    };
    assert_eq!(stage.tell(silent), [par_lifecycle::Action::Kill(old)]);
    assert_eq!(stage.tell(Event::Exited(old, CRASH)), []);
}

#[test]
fn replicas_that_are_too_many_and_abandoned_canaries_stay_for_their_sessions_too() {
    let (mut stage, replicas) = Stage::with_all_running(release(1, 2));
    let any = true;
    let surplus = replicas[1];
    stage.tell(Event::Sessions {
        replica: surplus,
        any,
    });
    assert_eq!(stage.ask(Command::Scale(agent("a"), 1)), []);
    assert_eq!(stage.route("a"), with_leaving(replicas[0], surplus));

    let (mut stage, old) = Stage::with_running(release(1, 1));
    let canary = stage.canary(release(2, 1), 100)[0];
    stage.ready(&[canary]);
    stage.tell(Event::Sessions {
        replica: canary,
        any,
    });
    assert_eq!(stage.ask(Command::Abandon(agent("a"))), []);
    assert_eq!(stage.route("a"), with_leaving(old, canary));
}

#[test]
fn a_stop_a_removal_and_the_end_of_everything_do_not_wait_for_sessions() {
    for command in [
        Command::Stop(agent("a")),
        Command::Remove(agent("a")),
        Command::StopAll,
    ] {
        let (mut stage, old, new) = retiring();
        let mut drained = stage.ask(command);
        drained.sort_by_key(|it| *it == drain(new));
        assert_eq!(drained, [drain(old), drain(new)]);
    }
}

#[test]
fn a_restart_by_hand_leaves_those_alone_that_stay_for_sessions() {
    let (mut stage, _, new) = retiring();
    assert_eq!(stage.ask(Command::Restart(agent("a"))), [drain(new)]);
    assert_eq!(stage.agent("a").leaving[0].state, ProcessState::Stopping);
}
