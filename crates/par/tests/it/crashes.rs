//! Agents that die come back as themselves, or stay down as their policy says.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use par_testkit::PackageBuilder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::scene::Scene;

const NAMED: &str = r#"
import os

def handler(body):
    if body.get("die"):
        os._exit(body["die"])
    return {"me": os.environ["PAR_AGENT_ID"], "said": body}
"#;

fn named(name: &str) -> PackageBuilder {
    PackageBuilder::new(name).main(NAMED)
}

fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process has an id");
    kill_process(pid, signal).expect("it can be signalled");
}

#[test]
fn two_agents_killed_at_once_come_back_and_each_answers_for_itself() {
    let scene = Scene::start();
    let quickly = json!({"restart_delay_seconds": 0.05, "max_restarts": 10});
    let names = ["left", "right"];
    for name in names {
        scene.serve(&named(name), &quickly);
    }
    let killed = AtomicBool::new(false);
    let answered = AtomicU32::new(0);
    thread::scope(|scope| {
        for name in names {
            for _ in 0..2 {
                scope.spawn(|| call_500_times(&scene, name, &answered));
            }
        }
        scope.spawn(|| {
            while answered.load(Ordering::Relaxed) < 200 {
                thread::yield_now();
            }
            kill_both(&scene, names, "agent_pid", 1);
            // Workers too: these hold the ports.
            kill_both(&scene, names, "pid", 2);
            killed.store(true, Ordering::Relaxed);
        });
    });
    assert!(killed.load(Ordering::Relaxed));
    for name in names {
        scene.wait_for_process(name, "back twice", |process| {
            process["state"] == "running" && process["restart_count"] == 2
        });
        assert_eq!(scene.call(name, &json!({})).json()["me"], name);
    }
}

/// Kills a process of each agent at the same moment, and waits until both are back.
fn kill_both(scene: &Scene, names: [&str; 2], field: &str, restarts: u32) {
    let pids = names.map(|name| scene.pid(name, field));
    pids.into_iter().for_each(kill);
    for name in names {
        scene.wait_for_process(name, "back", |process| {
            process["state"] == "running" && process["restart_count"] == restarts
        });
    }
}

/// Calls until 500 answers came. In the gap there may be none; a wrong one never.
fn call_500_times(scene: &Scene, name: &str, answered: &AtomicU32) {
    let mut good = 0;
    for turn in 0.. {
        let answer = scene.call(name, &json!({"turn": turn}));
        match answer.status {
            200 => {
                let said = json!({"me": name, "said": {"turn": turn}});
                assert_eq!(answer.json(), said, "misrouted");
                good += 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            502 | 503 => assert!(answer.json()["detail"].is_string()),
            other => panic!("{other}: {}", answer.text()),
        }
        if good == 500 {
            return;
        }
        assert!(turn < 100_000, "{name} does not come back");
    }
}

#[test]
fn without_a_restart_policy_a_crash_is_final_and_says_why() {
    let scene = Scene::start();
    scene.serve(&named("once"), &json!({"restart_policy": "never"}));
    assert_eq!(scene.call("once", &json!({"die": 3})).status, 502);
    let process = scene.wait_until("once", "crashed");
    assert_eq!(process["error"], "exited with code 3");
    assert_eq!(process["restart_count"], 0);
    let refused = scene.call("once", &json!({}));
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json(), json!({"detail": "Agent once unavailable"}));
    scene.wait_for_log("once", "exited with code 3");
}

#[test]
fn an_agent_that_crashes_again_and_again_is_given_up() {
    let scene = Scene::start();
    let options = json!({"restart_delay_seconds": 0.01, "max_restarts": 2});
    scene.serve(&named("looper"), &options);
    for life in 0..=2 {
        let died = scene.call("looper", &json!({"die": 4}));
        assert_eq!(died.status, 502, "{}", died.text());
        if life < 2 {
            scene.wait_for_process("looper", "back", |process| {
                process["state"] == "running" && process["restart_count"] == life + 1
            });
        }
    }
    let process = scene.wait_until("looper", "crashed");
    assert_eq!(process["restart_count"], 2);
    assert_eq!(process["error"], "exited with code 4");
    assert_eq!(scene.system.descendants(), Vec::<u32>::new());
}

#[test]
fn an_agent_that_dies_right_after_it_is_ready_ends_crashed_too() {
    let scene = Scene::start();
    let package = PackageBuilder::new("brief").main(
        "import os, threading\nthreading.Timer(0.05, os._exit, [5]).start()\ndef handler(body):\n    return 1\n",
    );
    let options = json!({"restart_delay_seconds": 0.01, "max_restarts": 3});
    assert_eq!(scene.spawn(&package, &options).status, 200);
    let process = scene.wait_for_process("brief", "given up", |process| {
        process["state"] == "crashed" || process["state"] == "failed"
    });
    assert_eq!(process["error"], "exited with code 5", "{process}");
}

#[test]
fn a_clean_exit_is_no_crash() {
    let scene = Scene::start();
    let python = "import os, signal\ndef handler(body):\n    os._exit(0)\n";
    scene.agent("done", python);
    assert_eq!(scene.call("done", &json!({})).status, 502);
    let process = scene.wait_until("done", "stopped");
    assert_eq!(process["restart_count"], 0);
    let line = scene.wait_for_log("done", "stopped by itself: exited with code 0");
    assert_eq!(line["level"], "INFO");
}

#[test]
fn a_worker_that_a_stranger_ends_by_a_signal_comes_back_and_says_so() {
    let scene = Scene::start();
    scene.serve(&named("target"), &json!({"restart_delay_seconds": 0.01}));
    let before = scene.pid("target", "pid");
    signal(before, Signal::TERM);
    scene.wait_for_process("target", "back", |process| {
        process["state"] == "running" && process["pid"] != before
    });
    scene.wait_for_log("target", "ended by SIGTERM");
    assert_eq!(scene.call("target", &json!({})).json()["me"], "target");
}
