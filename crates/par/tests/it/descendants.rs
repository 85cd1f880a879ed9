//! However something ends, what it started ends too: children, grandchildren, and those in sessions of their own.

use par_testkit::{PackageBuilder, wait_for};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;

use crate::scene::{PATIENCE, Scene};

/// Starts a child, and one that leaves the session and gives itself up for adoption.
const PARENT: &str = r#"
import os, time

def wait_for_ever():
    while True:
        time.sleep(600)

def start():
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write, b"%d " % os.getpid())
            wait_for_ever()
        os._exit(0)
    child = os.fork()
    if child == 0:
        os.write(write, b"%d " % os.getpid())
        wait_for_ever()
    pids = b""
    while pids.count(b" ") < 2:
        pids += os.read(read, 100)
    return [int(pid) for pid in pids.split()]

PIDS = start()

def handler(body):
    return PIDS
"#;

fn parent(scene: &Scene, name: &str) -> Vec<u32> {
    let quickly = json!({"restart_delay_seconds": 0.05, "max_restarts": 5});
    scene.serve(&PackageBuilder::new(name).main(PARENT), &quickly);
    children(scene, name)
}

fn children(scene: &Scene, name: &str) -> Vec<u32> {
    let answer = scene.call(name, &json!({})).json();
    let pids = answer.as_array().expect("a list of process ids").iter();
    let pids: Vec<u32> = pids
        .map(|pid| scene.seen_from_outside(name, pid.as_u64().expect("a process id")))
        .collect();
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    pids
}

fn is_alive(pid: u32) -> bool {
    let zombie = std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, tail)| tail.starts_with('Z'))
    });
    !zombie && test_kill_process(pid_of(pid)).is_ok()
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).expect("a process has an id")
}

fn kill(pid: u32) {
    kill_process(pid_of(pid), Signal::KILL).expect("it can be killed");
}

#[track_caller]
fn wait_until_gone(pids: &[u32]) {
    wait_for("the end of all descendants", PATIENCE, || {
        pids.iter().all(|pid| !is_alive(*pid)).then_some(())
    });
}

#[test]
fn stopping_an_agent_ends_what_it_forked_and_what_left_its_session() {
    let scene = Scene::start();
    let pids = parent(&scene, "family");
    let stopped = scene.http().post("/supervisor/stop/par-family", &json!({}));
    assert_eq!(stopped.expect("an answer").status, 200);
    wait_until_gone(&pids);
    assert_eq!(scene.process("family")["state"], "stopped");
    assert_eq!(scene.system.descendants(), Vec::<u32>::new());
}

#[test]
fn an_agent_that_is_killed_takes_its_descendants_along_and_comes_back() {
    let scene = Scene::start();
    for field in ["agent_pid", "pid"] {
        let name = field.replace('_', "-");
        let pids = parent(&scene, &name);
        let agent = scene.pid(&name, "agent_pid");
        kill(scene.pid(&name, field));
        scene.wait_for_process(&name, "back", |process| {
            process["state"] == "running" && process["agent_pid"] != agent
        });
        wait_until_gone(&pids);
        wait_until_gone(&[agent]);
        children(&scene, &name);
    }
}

#[test]
fn a_supervisor_that_is_told_to_end_leaves_no_descendant() {
    let scene = Scene::start();
    let mut pids = parent(&scene, "one");
    pids.extend(parent(&scene, "two"));
    let Scene { system, .. } = scene;
    let ended = system.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    wait_until_gone(&pids);
}

#[test]
fn a_supervisor_ends_in_time_even_when_an_agent_will_not() {
    let scene = Scene::start();
    let python = r#"
import signal, time

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)

def handler(body):
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass
"#;
    scene.agent("stubborn", python);
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| scene.call_within(60.0, "stubborn", "invoke"));
        scene.wait_for_process("stubborn", "in a call", |process| {
            process["state"] == "running"
        });
        // Two signals: the first would wait for the call.
        for signal in [Signal::TERM, Signal::TERM] {
            kill_process(pid_of(scene.system.pid()), signal).expect("our child");
            scene_waits_for_stopping(&scene);
        }
        let answer = calling.join().expect("its thread ends");
        assert!(answer.status >= 500, "{answer:?}");
    });
}

fn scene_waits_for_stopping(scene: &Scene) {
    let asked = || match scene.http().get("/supervisor/status") {
        Ok(answer) => (answer.json()["routes"] == json!([])).then_some(()),
        Err(_gone) => Some(()),
    };
    wait_for("the supervisor ends", PATIENCE, asked);
}

#[test]
fn a_supervisor_that_is_killed_leaves_no_descendant_and_a_new_one_takes_its_state() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let scene = Scene::with(|builder| builder.state(state.path()));
    let pids = parent(&scene, "one");
    let Scene { system, .. } = scene;
    system.kill();
    wait_until_gone(&pids);

    let again = Scene::with(|builder| builder.state(state.path()));
    again.wait_until("one", "running");
    children(&again, "one");
}
