//! Limits hold, in every mode that this machine can offer, and what does not hold is said.

use par_testkit::{PackageBuilder, control_groups};
use serde_json::{Value, json};

use crate::backend::{AGENT, backend, error, run, value};
use crate::ran::par;
use crate::scene::Scene;

const MODES: [&str; 4] = ["auto", "cgroup1", "cgroup2", "rlimits"];

/// Takes a gigabyte, a megabyte at a time.
const HUNGRY: &str = r#"
def handler(body):
    held = []
    for _ in range(1024):
        held.append(b"x" * (1 << 20))
    return len(held)
"#;

fn scene(mode: &str) -> Scene {
    Scene::with(|builder| builder.arguments(["--limits-by", mode]))
}

/// With `options`, and left as it ends.
fn agent(scene: &Scene, name: &str, python: &str, mut options: Value) {
    options["restart_policy"] = json!("never");
    scene.serve(&PackageBuilder::new(name).main(python), &options);
}

/// What a running agent's status says of one limit.
fn limit(scene: &Scene, agent: &str, name: &str) -> Value {
    let process = scene.wait_for_process(agent, "told of its limits", |process| {
        process["limits"].is_array()
    });
    let limits = process["limits"].as_array().cloned().unwrap_or_default();
    let found = limits.into_iter().find(|limit| limit["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is missing in {process}"))
}

fn is_held_by_a_group(limit: &Value) -> bool {
    let how = limit["how"].as_str();
    how.is_some_and(|how| how.starts_with("cgroup"))
}

#[test]
fn sixty_four_megabytes_end_a_gigabyte_in_every_mode_and_say_so() {
    for mode in MODES {
        let scene = scene(mode);
        agent(&scene, "hungry", HUNGRY, json!({"memory_limit_mb": 64}));
        let held = limit(&scene, "hungry", "memory");
        assert_eq!(held["held"], true, "{held}");
        if !is_held_by_a_group(&held) {
            assert_eq!(held["how"], "watchdog");
            assert!(held["why"].is_string(), "no group, for a reason: {held}");
        }
        let answer = scene.call("hungry", &json!({}));
        assert_eq!(answer.status, 502, "{mode}: {}", answer.text());
        assert!(answer.text().contains("out of memory"), "{}", answer.text());
        let ended = scene.wait_until("hungry", "crashed");
        let error = ended["error"].as_str().expect("a reason");
        assert!(error.starts_with("out of memory: used "), "{mode}: {error}");
        assert!(error.contains("of 64 MiB allowed"), "{mode}: {error}");
        scene.wait_for_log("hungry", "of 64 MiB allowed");
        let ps = par(["ps", "--url", scene.system.url()]).ended_with(0);
        assert!(ps.stdout.contains("out of memory: used"), "{}", ps.stdout);
    }
}

#[test]
fn memory_that_is_used_and_allowed_is_shown_while_it_runs() {
    let scene = scene("auto");
    let python = "def handler(body):\n    return 1\n";
    agent(&scene, "small", python, json!({"memory_limit_mb": 64}));
    limit(&scene, "small", "memory");
    let memory = scene.process("small")["resources"]["memory"].take();
    assert_eq!(memory["limit_bytes"], 64 << 20, "{memory}");
    let used = memory["limited_bytes"].as_u64().expect("known");
    assert!((1 << 20..64 << 20).contains(&used), "{memory}");
    assert!(memory["pss_bytes"].as_u64() > Some(0), "{memory}");
    let ps = par(["ps", "--url", scene.system.url()]).ended_with(0);
    assert!(
        ps.stdout.contains("/64.0MB") || ps.stdout.contains("/64MB"),
        "{}",
        ps.stdout
    );
    let one = par(["ps", "small", "--url", scene.system.url()]).ended_with(0);
    for words in ["memory 64 MiB", "pids 512", "open files 1024"] {
        assert!(one.stdout.contains(words), "{}", one.stdout);
    }
}

#[test]
fn a_child_that_is_killed_for_want_of_memory_is_told_and_its_agent_lives() {
    let scene = scene("auto");
    let python = r#"
import subprocess, sys

def handler(body):
    code = "x = b'x' * (1 << 30)"
    return subprocess.run([sys.executable, "-S", "-c", code], check=False).returncode
"#;
    agent(&scene, "parent", python, json!({"memory_limit_mb": 96}));
    if !is_held_by_a_group(&limit(&scene, "parent", "memory")) {
        return; // a watchdog ends the whole agent; that is another test
    }
    assert_eq!(scene.call("parent", &json!({})).json(), -9);
    scene.wait_for_log("parent", "the kernel killed 1 of the agent's processes");
    assert_eq!(scene.process("parent")["state"], "running");
}

#[test]
fn a_fork_bomb_is_stopped_in_every_mode() {
    let python = r#"
import os, time

def handler(body):
    started = 0
    try:
        for _ in range(80):
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)
            started += 1
    except OSError as error:
        return [started, error.errno]
    time.sleep(600)
"#;
    const EAGAIN: u64 = 11;
    for mode in MODES {
        let scene = scene(mode);
        agent(&scene, "bomb", python, json!({"pids_limit": 20}));
        let held = limit(&scene, "bomb", "pids");
        assert_eq!(held["held"], true, "{held}");
        let answer = scene.call("bomb", &json!({}));
        if is_held_by_a_group(&held) {
            let answer = answer.json();
            assert!(answer[0].as_u64() < Some(20), "{mode}: {answer}");
            assert_eq!(answer[1], EAGAIN, "{mode}");
            scene.wait_for_log("bomb", "too many processes");
        } else if answer.status == 200 {
            // Its user has no more, whoever looks: that comes before the watchdog.
            assert_eq!(answer.json()[1], EAGAIN, "{mode}");
        } else {
            assert_eq!(answer.status, 502, "{mode}: {}", answer.text());
            let ended = scene.wait_until("bomb", "crashed");
            let error = ended["error"].as_str().expect("a reason");
            assert!(error.starts_with("too many processes"), "{mode}: {error}");
        }
    }
}

#[test]
fn processors_are_held_by_a_group_or_said_not_to_be() {
    let python = r#"
import time

def handler(body):
    began = time.monotonic()
    while time.process_time() < body["until"] and time.monotonic() < began + 20:
        pass
    return time.monotonic() - began

def used(body):
    return time.process_time()
"#;
    for mode in ["auto", "rlimits"] {
        let scene = scene(mode);
        let package = PackageBuilder::new("busy")
            .main(python)
            .manifest(&crate::scene::exports(&["used"]));
        scene.serve(&package, &json!({"cpu_limit": 0.25}));
        let held = limit(&scene, "busy", "cpu");
        if !is_held_by_a_group(&held) {
            assert_eq!(held["held"], false, "{held}");
            assert!(held["why"].is_string(), "{held}");
            scene.wait_for_log("busy", "cpu 0.25 (not held: ");
            let ps = par(["ps", "--url", scene.system.url()]).ended_with(0);
            assert!(ps.stdout.contains("do not hold here: cpu"), "{}", ps.stdout);
            continue;
        }
        let used = scene.call_within(20.0, "busy", "used").json();
        let until = used.as_f64().expect("seconds") + 0.3;
        let took = scene.call("busy", &json!({ "until": until })).json();
        assert!(took.as_f64() > Some(0.8), "0.3 s of work took {took} s");
    }
}

#[test]
fn open_files_are_bounded() {
    let scene = scene("auto");
    let python = r#"
def handler(body):
    held = []
    try:
        while len(held) < 1000:
            held.append(open("/dev/null"))
    except OSError as error:
        return [len(held), error.errno]
"#;
    agent(&scene, "opener", python, json!({"open_files_limit": 64}));
    assert_eq!(limit(&scene, "opener", "open_files")["how"], "rlimit");
    let answer = scene.call("opener", &json!({})).json();
    const EMFILE: u64 = 24;
    assert!(answer[0].as_u64() < Some(64), "{answer}");
    assert_eq!(answer[1], EMFILE);
}

#[test]
fn a_workspace_that_is_full_ends_its_agent() {
    let scene = scene("auto");
    let python = r#"
import os, pathlib, time

def handler(body):
    # One file of more than may be is refused at once; many are counted.
    try:
        pathlib.Path(os.environ["HOME"], "large").write_bytes(os.urandom(5 << 20))
    except OSError:
        pathlib.Path(os.environ["HOME"], "large").unlink()
        for n in range(10):
            pathlib.Path(os.environ["HOME"], str(n)).write_bytes(os.urandom(1 << 19))
    time.sleep(600)
"#;
    agent(&scene, "writer", python, json!({"workspace_limit_mb": 1}));
    assert_eq!(limit(&scene, "writer", "workspace")["how"], "watchdog");
    assert_eq!(scene.call("writer", &json!({})).status, 502);
    let ended = scene.wait_until("writer", "crashed");
    let error = ended["error"].as_str().expect("a reason");
    assert!(error.starts_with("the workspace is full: used "), "{error}");
}

#[test]
fn a_limit_that_is_required_and_cannot_hold_refuses_to_start() {
    let scene = scene("rlimits");
    let python = "def handler(body):\n    return 1\n";
    let options = json!({"cpu_limit": 1.0, "require_limits": true});
    scene.spawn(&PackageBuilder::new("strict").main(python), &options);
    let failed = scene.wait_until("strict", "failed");
    let error = failed["error"].as_str().expect("a reason");
    assert!(
        error.starts_with("limits are required and do not hold: cpu 1 (not held: "),
        "{error}"
    );
    assert_eq!(failed["agent_pid"], Value::Null);
    // Without the limit that cannot hold it starts.
    scene.serve(
        &PackageBuilder::new("content").main(python),
        &json!({"require_limits": true}),
    );
}

#[test]
fn priority_and_limits_of_the_command_line_are_told_as_they_are() {
    let scene = scene("auto");
    let python = "def handler(body):\n    return 1\n";
    let package = PackageBuilder::new("polite").main(python);
    let path = package.apkg(scene.folder());
    let path = path.to_str().expect("plain");
    let url = scene.system.url();
    let words = [
        "deploy",
        path,
        "--url",
        url,
        "--priority",
        "low",
        "--pids",
        "99",
    ];
    par(words).ended_with(0);
    assert_eq!(limit(&scene, "polite", "priority")["held"], true);
    assert_eq!(limit(&scene, "polite", "priority")["asked"], "low");
    assert_eq!(limit(&scene, "polite", "pids")["asked"], "99");
}

#[test]
fn a_supervisor_that_is_killed_leaves_no_group() {
    let scene = scene("auto");
    agent(&scene, "orphan", HUNGRY, json!({}));
    let memory = limit(&scene, "orphan", "memory");
    let state = scene.system.state().to_owned();
    let groups = control_groups(&state);
    assert_eq!(
        !groups.is_empty(),
        is_held_by_a_group(&memory),
        "{groups:?}"
    );
    // Its end waits until nothing is left, groups among it.
    scene.system.kill();
}

#[test]
fn a_session_is_in_a_group_of_its_own_and_memory_that_is_only_shared_counts_too() {
    let scene = backend();
    let memory = limit(&scene, AGENT, "memory");
    run(&scene, "a", "began = True");
    // From inside, every group is the root of all.
    let groups: Vec<String> = scene
        .system
        .descendants()
        .iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok())
        .collect();
    let groups = groups.concat();
    let has_own = groups.contains("/session-");
    assert_eq!(has_own, is_held_by_a_group(&memory), "{groups}");
    run(&scene, "a", "kept = 1");
    let greedy = "import mmap\nshared = mmap.mmap(-1, 3 << 30)\nfor at in range(0, 3 << 30, 4096):\n    shared[at] = 1";
    let why = error(&scene, "a", greedy);
    assert!(why.contains("MiB of memory that it may have"), "{why}");
    assert_eq!(value(&scene, "a", "kept"), 1);
}

#[test]
fn the_doctor_says_who_holds_which_limit() {
    let doctor = par(["doctor"]);
    let line = doctor.stdout.lines().find(|line| line.contains("limits"));
    let line = line.unwrap_or_else(|| panic!("{}", doctor.stdout));
    assert!(line.contains("memory"), "{line}");
}
