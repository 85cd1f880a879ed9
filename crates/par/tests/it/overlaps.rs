//! Things that come at the same moment, or while something else is half done.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use par_testkit::wait_for;
use serde_json::{Value, json};

use crate::ran::{Ran, par_in};
use crate::scene::{PATIENCE, Scene};
use crate::traffic::speaker;

fn scene() -> Scene {
    let scene = Scene::with(|builder| builder.lasting(30.0));
    scene.serve(&speaker("only"), &json!({}));
    scene
}

fn par(scene: &Scene, words: &[&str]) -> Ran {
    let all = ["--url", scene.system.url()];
    par_in(scene.folder(), all.iter().chain(words), "")
}

/// It takes everything over, and then cannot write the state file.
#[test]
fn an_heir_that_fails_after_it_has_got_everything_takes_nothing_along() {
    let scene = scene();
    let before = scene.process("only");
    let heir = scene.folder().join("heir");
    let par_binary = env!("CARGO_BIN_EXE_par");
    let text = format!("#!/bin/sh\nulimit -f 0\nexec {par_binary} \"$@\"\n");
    fs::write(&heir, text).expect("written");
    fs::set_permissions(&heir, fs::Permissions::from_mode(0o755)).expect("set");
    let heir = heir.to_str().expect("plain");
    let ran = par(&scene, &["upgrade", "--binary", heir]);
    assert_ne!(ran.code, 0, "{ran:?}");
    let after = scene.process("only");
    for field in ["pid", "agent_pid", "port", "state"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(scene.call("only", &json!({ "n": 1 })).json()["me"], "only");
    par(&scene, &["restart", "only"]).ended_with(0);
    assert_eq!(scene.call("only", &json!({ "n": 1 })).json()["me"], "only");
}

#[test]
fn deployments_of_one_agent_at_one_time_all_get_an_answer_and_one_of_them_serves() {
    let scene = scene();
    let package = speaker("only").apkg(scene.folder());
    let package = package.to_str().expect("plain");
    let answers: Vec<Ran> = thread::scope(|scope| {
        let deploying = (0..6).map(|_| scope.spawn(|| par(&scene, &["deploy", package])));
        let deploying: Vec<_> = deploying.collect();
        let join = |it: thread::ScopedJoinHandle<'_, Ran>| it.join().expect("no panic");
        deploying.into_iter().map(join).collect()
    });
    let good = answers.iter().filter(|ran| ran.code == 0).count();
    assert!(good > 0, "{answers:?}");
    for ran in answers.iter().filter(|ran| ran.code != 0) {
        assert!(ran.stderr.contains("replaced"), "{ran:?}");
    }
    let process = scene.wait_for_process("only", "there", |process| {
        process["state"] == "running" && process["rollout"] == Value::Null
    });
    assert!(process["release"].as_u64() > Some(1));
    assert_eq!(scene.call("only", &json!({ "n": 1 })).json()["me"], "only");
}

#[test]
fn what_is_being_removed_when_the_supervisor_dies_does_not_come_back() {
    let mut scene = scene();
    let slow = "import time\ndef handler(body):\n    time.sleep(body.get('seconds', 0))\n    return body\n";
    scene.agent("slow", slow);
    let state_of_slow = |scene: &Scene| scene.process("slow")["state"].clone();
    let (url, http) = (scene.system.url().to_owned(), scene.http());
    let calling = thread::spawn(move || http.post("/agents/slow/invoke", &json!({ "seconds": 5 })));
    scene.wait_for_process("slow", "in a call", |_| {
        let health = scene.http().get("/agents/slow/health");
        health.is_ok_and(|it| it.json()["agent_status"]["in_flight"] == 1)
    });
    let folder = scene.folder().to_owned();
    let removing = thread::spawn(move || par_in(&folder, ["--url", &url, "rm", "slow"], ""));
    wait_for("it is not wanted any more", PATIENCE, || {
        let answer = scene.http().get("/supervisor/agents/slow/releases");
        (answer.ok()?.status == 404).then_some(())
    });
    assert_eq!(state_of_slow(&scene), "stopping");
    scene.system.crash();
    let removing = removing.join().expect("no panic");
    assert_ne!(
        removing.code, 0,
        "nobody knew that it is gone: {removing:?}"
    );
    drop(calling.join());
    scene.system.again();
    assert_eq!(
        scene
            .http()
            .get("/agents/slow/health")
            .expect("an answer")
            .status,
        404
    );
    assert_eq!(scene.call("only", &json!({ "n": 1 })).json()["me"], "only");
}
