//! Who gets which ports, and for how long.

use par_lifecycle::{Beside, Command, Event, Refusal, Settings};
use par_model::control::EndCause;
use par_model::{ProcessState, RestartMode};

use crate::stage::{CRASH, SECOND, Stage, agent, deployment, only_spawn, release, settings};

fn taken(port: u16) -> EndCause {
    EndCause::PortTaken { port }
}

fn two_ports() -> Settings {
    Settings {
        ports: 8001..=8002,
        ..settings()
    }
}

#[test]
fn a_port_that_somebody_else_has_is_passed_over_and_that_is_no_restart() {
    let mut stage = Stage::new(settings());
    let first = stage.deploy("a", deployment(RestartMode::OnFailure));
    let second = stage.ends_and_restarts(first, taken(8001));
    assert_ne!(second, first);
    assert_eq!(stage.incarnation("a").port, 8002);
    let third = stage.ends_and_restarts(second, taken(8002));
    assert_eq!(stage.incarnation("a").port, 8003, "none is tried twice");
    assert_eq!(stage.status("a").restart_count, 0);

    assert_eq!(stage.tell(Event::Exited(third, taken(8003))), []);
    assert_eq!(stage.status("a").state, ProcessState::Failed);
    assert_eq!(stage.status("a").error, Some(taken(8003)));
}

#[test]
fn an_agent_that_lost_its_port_while_it_was_down_moves_to_another_and_keeps_serving() {
    let (mut stage, first) = Stage::with_running(deployment(RestartMode::OnFailure));
    let second = stage.ends_and_restarts(first, CRASH);
    let third = stage.ends_and_restarts(second, taken(8001));
    stage.tell(Event::Ready(third));
    assert_eq!(stage.status("a").state, ProcessState::Running);
    assert_eq!(stage.incarnation("a").port, 8002);
    assert_eq!(stage.status("a").restart_count, 1);
}

#[test]
fn a_deployment_for_which_no_port_is_free_is_refused_and_leaves_nothing() {
    let mut stage = Stage::new(two_ports());
    stage.deploy("a", deployment(RestartMode::OnFailure));
    stage.deploy("b", deployment(RestartMode::OnFailure));
    let refused = stage.try_ask(Command::Deploy(
        agent("c"),
        deployment(RestartMode::OnFailure),
        Beside::Refuse,
    ));
    assert_eq!(refused, Err(Refusal::NoPortFree));
    assert!(!stage.fleet.status().contains_key("c"));
}

#[test]
fn a_restart_for_which_no_port_is_free_fails_with_that_reason() {
    let mut stage = Stage::new(two_ports());
    for name in ["a", "b"] {
        let replica = stage.deploy(name, deployment(RestartMode::OnFailure));
        stage.tell(Event::Ready(replica));
    }
    let second = stage.ends_and_restarts(stage.incarnation("a").replica, CRASH);
    stage.tell(Event::Exited(second, CRASH));
    assert_eq!(stage.status("a").state, ProcessState::Crashed);
    stage.deploy("c", deployment(RestartMode::OnFailure));

    assert_eq!(stage.pass(5 * SECOND), []);
    assert_eq!(stage.status("a").state, ProcessState::Failed);
    assert_eq!(stage.status("a").error, Some(EndCause::NoPortFree));
}

#[test]
fn a_killed_process_holds_its_ports_until_its_exit_is_seen() {
    let mut stage = Stage::new(Settings {
        ports: 8001..=8001,
        ..settings()
    });
    let replica = stage.deploy("a", deployment(RestartMode::OnFailure));
    stage.ask(Command::Remove(agent("a")));
    stage.pass(5 * SECOND);
    let deploy = Command::Deploy(
        agent("b"),
        deployment(RestartMode::OnFailure),
        Beside::Refuse,
    );
    assert_eq!(stage.try_ask(deploy.clone()), Err(Refusal::NoPortFree));
    stage.tell(Event::Exited(replica, CRASH));
    only_spawn(&stage.ask(deploy));
}

#[test]
fn an_agent_comes_back_to_the_port_it_had_even_if_others_came_meanwhile() {
    let (mut stage, replica) = Stage::with_running(deployment(RestartMode::Never));
    stage.tell(Event::Exited(replica, CRASH));
    stage.deploy("b", deployment(RestartMode::OnFailure));
    assert_eq!(stage.incarnation("b").port, 8002);
    stage.ask(Command::Start(agent("a")));
    assert_eq!(stage.incarnation("a").port, 8001);
}

#[test]
fn the_port_of_a_removed_agent_is_nobodys() {
    let (mut stage, replica) = Stage::with_running(deployment(RestartMode::Never));
    stage.ask(Command::Remove(agent("a")));
    stage.tell(Event::Exited(replica, EndCause::Asked));
    stage.deploy("b", deployment(RestartMode::OnFailure));
    assert_eq!(stage.incarnation("b").port, 8001);
}

#[test]
fn a_port_whose_partner_would_be_beyond_the_last_one_is_never_given_out() {
    let mut stage = Stage::new(Settings {
        ports: 65_000..=65_535,
        ..settings()
    });
    let deploy = Command::Deploy(
        agent("a"),
        deployment(RestartMode::OnFailure),
        Beside::Refuse,
    );
    assert_eq!(stage.try_ask(deploy), Err(Refusal::NoPortFree));
}

#[test]
fn a_release_that_fails_leaves_the_one_before_its_port() {
    let (mut stage, first) = Stage::with_running(deployment(RestartMode::OnFailure));
    let new = stage.roll(release(2, 1));
    stage.tell(Event::Exited(new[0], CRASH));
    stage.ends_and_restarts(first, CRASH);
    assert_eq!(stage.incarnation("a").port, 8001);
}

#[test]
fn a_release_that_takes_over_is_at_home_where_it_lives() {
    let (mut stage, first) = Stage::with_running(deployment(RestartMode::OnFailure));
    let second = stage.roll(release(2, 1));
    stage.ready(&second);
    stage.obey(&[first]);
    stage.ask(Command::Stop(agent("a")));
    stage.obey(&second);
    stage.deploy("b", deployment(RestartMode::OnFailure));
    assert_eq!(stage.incarnation("b").port, 8001, "it is nobody's");
    stage.ask(Command::Start(agent("a")));
    assert_eq!(stage.incarnation("a").port, 8002);
}

#[test]
fn a_refused_deployment_leaves_no_port_that_others_would_avoid() {
    let mut stage = Stage::new(two_ports());
    let replica = stage.deploy("a", deployment(RestartMode::OnFailure));
    stage.ask(Command::Stop(agent("a")));
    stage.obey(&[replica]);
    let three = Command::Deploy(agent("b"), release(1, 3), Beside::Refuse);
    assert_eq!(stage.try_ask(three), Err(Refusal::NoPortFree));
    stage.deploy("c", deployment(RestartMode::OnFailure));
    assert_eq!(stage.incarnation("c").port, 8002, "8001 is that of `a`");
}

#[test]
fn a_canary_that_crashes_comes_back_to_its_own_port() {
    let (mut stage, _) = Stage::with_running(deployment(RestartMode::OnFailure));
    stage.deploy("b", deployment(RestartMode::OnFailure));
    let canary = stage.canary(release(2, 1), 100);
    stage.ready(&canary);
    stage.ask(Command::Remove(agent("b")));
    stage.obey(&[canary[0]]);
    let status = stage.agent("a").incoming.expect("it is restarted");
    let port = status.replicas[0].incarnation.map(|it| it.port);
    assert_eq!(port, Some(8003));
}
