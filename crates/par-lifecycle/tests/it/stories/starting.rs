//! From the deployment to the first answer, or to the reason why there is none.

use par_lifecycle::{Action, Deployment, Event, Release, Route, What};
use par_model::control::EndCause;
use par_model::{ProcessState, RestartMode};

use crate::stage::{CLEAN, CRASH, SECOND, Stage, deployment, load_failed, settings, to};

#[test]
fn a_deployed_agent_is_started_with_a_pair_of_ports_and_published_when_it_answers() {
    let mut stage = Stage::new(settings());
    let replica = stage.deploy("a", deployment(RestartMode::OnFailure));
    let incarnation = stage.incarnation("a");
    assert_eq!(incarnation.replica, replica);
    assert_eq!((incarnation.port, incarnation.grpc_port), (8001, 18001));
    assert_eq!(stage.status("a").state, ProcessState::Starting);
    assert_eq!(stage.route("a"), Route::Down);

    assert_eq!(stage.tell(Event::Spawned { replica, pid: 77 }), []);
    assert_eq!(stage.tell(Event::Prepared(replica)), []);
    assert_eq!(stage.tell(Event::Ready(replica)), []);
    assert_eq!(stage.status("a").state, ProcessState::Running);
    assert_eq!(stage.status("a").ready_since, Some(stage.now));
    assert_eq!(stage.incarnation("a").pid, Some(77));
    assert_eq!(stage.route("a"), to(&[replica]));
    assert_eq!(stage.fleet.next_deadline(), None);
    assert!(stage.agent("a").live);
    assert_eq!(
        stage.heard(),
        [What::Starting, What::Ready, What::ReleaseLive]
    );
}

#[test]
fn an_agent_that_never_came_up_fails_at_once_whatever_its_policy() {
    let dependencies = EndCause::DependenciesFailed {
        reason: "no such package".to_owned(),
    };
    for cause in [load_failed(), dependencies, CRASH, CLEAN, EndCause::Asked] {
        for mode in [
            RestartMode::OnFailure,
            RestartMode::Always,
            RestartMode::Never,
        ] {
            let mut stage = Stage::new(settings());
            let replica = stage.deploy("a", deployment(mode));
            assert_eq!(stage.tell(Event::Exited(replica, cause.clone())), []);
            let status = stage.status("a");
            assert_eq!(status.state, ProcessState::Failed, "{cause} under {mode:?}");
            assert_eq!(status.error, Some(cause.clone()));
            assert_eq!(stage.fleet.next_deadline(), None);
            assert_eq!(stage.route("a"), Route::Down);
        }
    }
}

#[test]
fn an_agent_that_does_not_come_up_in_time_is_ended_and_fails_with_that_reason() {
    let mut stage = Stage::new(settings());
    let replica = stage.deploy("a", deployment(RestartMode::Always));
    stage.tell(Event::Prepared(replica));
    assert_eq!(stage.pass(20 * SECOND), [Action::Terminate(replica)]);
    assert_eq!(stage.tell(Event::Ready(replica)), [], "too late");
    assert_eq!(stage.pass(5 * SECOND), [Action::Kill(replica)]);
    assert_eq!(stage.tell(Event::Exited(replica, CRASH)), []);
    let status = stage.status("a");
    assert_eq!(status.state, ProcessState::Failed);
    let after = 20 * SECOND;
    assert_eq!(status.error, Some(EndCause::StartTimedOut { after }));
}

#[test]
fn dependencies_have_a_longer_deadline_and_loading_begins_when_they_are_there() {
    let mut stage = Stage::new(settings());
    let replica = stage.deploy("a", deployment(RestartMode::OnFailure));
    assert_eq!(stage.pass(99 * SECOND), []);
    stage.tell(Event::Prepared(replica));
    assert_eq!(stage.fleet.next_deadline(), Some(stage.now + 20 * SECOND));

    stage.pass(19 * SECOND);
    stage.tell(Event::Prepared(replica));
    assert_eq!(
        stage.fleet.next_deadline(),
        Some(stage.now + SECOND),
        "said twice, it gives no more time"
    );
}

#[test]
fn dependencies_that_take_too_long_end_the_start() {
    let mut stage = Stage::new(settings());
    let replica = stage.deploy("a", deployment(RestartMode::OnFailure));
    assert_eq!(stage.pass(100 * SECOND), [Action::Terminate(replica)]);
}

#[test]
fn a_deployment_may_ask_for_its_own_time_to_start() {
    let mut stage = Stage::new(settings());
    let patient = Deployment {
        start_timeout: Some(60 * SECOND),
        ..deployment(RestartMode::OnFailure)
    };
    let replica = stage.deploy("a", patient);
    stage.tell(Event::Prepared(replica));
    assert_eq!(stage.fleet.next_deadline(), Some(stage.now + 60 * SECOND));
}

#[test]
fn a_failed_agent_can_be_replaced_by_a_better_release() {
    let mut stage = Stage::new(settings());
    let broken = stage.deploy("a", deployment(RestartMode::OnFailure));
    stage.tell(Event::Exited(broken, load_failed()));
    let better = Deployment {
        release: Release(2),
        ..deployment(RestartMode::OnFailure)
    };
    let replica = stage.deploy("a", better);
    assert_ne!(replica, broken);
    assert_eq!(stage.status("a").release, Release(2));
    assert_eq!(stage.status("a").error, None);
}
