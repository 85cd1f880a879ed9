//! An agent that is nothing but the execution backend, and code that runs in its sessions.

use par_testkit::{Answer, PackageBuilder, wait_for};
use serde_json::{Value, json};

use crate::scene::{PATIENCE, Scene};

pub(crate) const AGENT: &str = "runner";

/// A supervisor with one such agent.
pub(crate) fn backend() -> Scene {
    let scene = Scene::start();
    scene.serve(&package(AGENT), &json!({}));
    scene
}

pub(crate) fn package(name: &str) -> PackageBuilder {
    PackageBuilder::new(name)
        .entrypoint(None)
        .manifest("capabilities: [code-execution]")
}

/// Asks for a run as it is asked for over HTTP.
pub(crate) fn execute(scene: &Scene, session: &str, request: &Value) -> Answer {
    let path = format!("/agents/{AGENT}/sessions/{session}/execute");
    let answer = scene.http().post(&path, request);
    answer.expect("the supervisor answers")
}

/// What came of a run that was let in.
#[track_caller]
pub(crate) fn run(scene: &Scene, session: &str, code: &str) -> Value {
    let answer = execute(scene, session, &json!({ "code": code }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The value of the last expression of a run that succeeds.
#[track_caller]
pub(crate) fn value(scene: &Scene, session: &str, code: &str) -> Value {
    let ran = run(scene, session, code);
    assert_eq!(ran["success"], true, "{ran}");
    ran["results"]["_"].clone()
}

/// The reason of a run that fails.
#[track_caller]
pub(crate) fn error(scene: &Scene, session: &str, code: &str) -> String {
    let ran = run(scene, session, code);
    assert_eq!(ran["success"], false, "{ran}");
    ran["error"].as_str().expect("a reason").to_owned()
}

/// What a session looks like from outside; null when there is none.
pub(crate) fn session(scene: &Scene, session: &str) -> Value {
    let path = format!("/agents/{AGENT}/sessions/{session}");
    let answer = scene.http().get(&path).expect("the supervisor answers");
    match answer.status {
        200 => answer.json(),
        _ => Value::Null,
    }
}

#[track_caller]
pub(crate) fn wait_until_idle(scene: &Scene, name: &str) {
    let what = format!("session {name} is idle");
    wait_for(&what, PATIENCE, || {
        (session(scene, name)["state"] == "idle").then_some(())
    });
}
