//! Agents that hang are found, say where, and come back; those that are merely busy are left alone.

use std::thread;

use par_testkit::{PackageBuilder, wait_for};
use serde_json::{Value, json};

use crate::ran::par;
use crate::scene::{Scene, exports};

const HANGS: &str = r#"
import asyncio, ctypes, re, time

async def handler(body):
    return "here"

async def block(body):
    time.sleep(600)

def hold(body):
    while True:
        # Whoever asks where it hangs wakes it for a moment.
        ctypes.PyDLL(None).sleep(600)

def catastrophe(body):
    re.match("(a*)*b", "a" * 64)

def compute(body):
    until = time.monotonic() + body["seconds"]
    while time.monotonic() < until:
        pass
    return "computed"

def wait(body):
    time.sleep(body["seconds"])
    return "waited"
"#;

const SOON: [(&str, f64); 2] = [
    ("liveness_interval_seconds", 0.2),
    ("liveness_deadline_seconds", 1.0),
];

fn options() -> Value {
    SOON.iter()
        .map(|(name, seconds)| ((*name).to_owned(), json!(seconds)))
        .collect()
}

fn serve(scene: &Scene, options: &Value) {
    let names = ["block", "hold", "catastrophe", "compute", "wait"];
    let package = PackageBuilder::new("hangs")
        .main(HANGS)
        .manifest(&exports(&names));
    scene.serve(&package, options);
}

/// Calls what hangs, and waits until another incarnation serves.
#[track_caller]
fn hangs_and_comes_back(export: &str) {
    let scene = Scene::start();
    serve(&scene, &options());
    let before = scene.pid("hangs", "agent_pid");
    let answer = scene.call_within(60.0, "hangs", export);
    assert_eq!(answer.status, 502, "{}", answer.text());
    let why = "did not answer a liveness probe within 1s";
    assert!(answer.text().contains(why), "{}", answer.text());
    let back = |process: &Value| process["state"] == "running" && process["agent_pid"] != before;
    let process = scene.wait_for_process("hangs", "back", back);
    assert_eq!(process["restart_count"], 1);
    scene.wait_for_log("hangs", "it hangs: did not answer");
    let stacks = scene.wait_for_log("hangs", &format!("in {export}"));
    assert_eq!(stacks["extra"]["stream"], "stderr");
    assert_eq!(scene.call("hangs", &json!({})).json(), "here");
}

#[test]
fn one_that_holds_the_interpreter_for_ever_is_ended_and_says_where() {
    hangs_and_comes_back("hold");
}

#[test]
fn one_whose_expression_never_ends_is_ended_and_says_where() {
    hangs_and_comes_back("catastrophe");
}

#[test]
fn one_that_blocks_its_event_loop_is_ended_and_says_where() {
    hangs_and_comes_back("block");
}

#[test]
fn one_that_is_merely_busy_is_left_alone() {
    let scene = Scene::start();
    serve(&scene, &options());
    let before = scene.pid("hangs", "agent_pid");
    let busy = json!({ "seconds": 4 });
    thread::scope(|scope| {
        for export in ["compute", "compute", "wait", "wait"] {
            let (scene, busy) = (&scene, &busy);
            scope.spawn(move || {
                let path = format!("/agents/hangs/exports/{export}");
                let answer = scene.http().post(&path, busy).expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.text());
            });
        }
    });
    assert_eq!(scene.pid("hangs", "agent_pid"), before);
    assert_eq!(scene.process("hangs")["restart_count"], 0);
}

#[test]
fn one_that_is_not_to_be_probed_may_hang_and_a_stop_ends_it() {
    let scene = Scene::start();
    let mut off = options();
    off["liveness_deadline_seconds"] = json!(0);
    serve(&scene, &off);
    let answer = scene.call_within(3.0, "hangs", "hold");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(scene.process("hangs")["restart_count"], 0);
}

const SICK: &str = r#"
sick = False
asked = 0

async def app(scope, receive, send):
    global sick, asked
    if scope["type"] != "http":
        return
    if scope["path"].endswith("/fall-ill"):
        sick = True
    if scope["path"] == "/live":
        asked += 1
        print("asked", asked)
    status = 503 if sick and scope["path"] == "/live" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"#;

#[test]
fn one_whose_own_path_is_wrong_for_too_long_is_ended() {
    let scene = Scene::start();
    let package = PackageBuilder::new("sick")
        .main(SICK)
        .entrypoint(None)
        .manifest("http_server: src.main:app");
    let mut asked = options();
    asked["liveness_path"] = json!("/live");
    scene.serve(&package, &asked);
    let before = scene.pid("sick", "agent_pid");
    // For longer than the deadline: as long as it is well, it stays.
    scene.wait_for_log("sick", "asked 8");
    assert_eq!(scene.pid("sick", "agent_pid"), before);
    let answer = scene
        .http()
        .get("/agents/sick/fall-ill")
        .expect("an answer");
    assert_eq!(answer.status, 200);
    let back = |process: &Value| process["state"] == "running" && process["agent_pid"] != before;
    scene.wait_for_process("sick", "back", back);
    scene.wait_for_log("sick", "it hangs: `/live` answered 503 for 1s");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let scene = Scene::start();
    for (name, value) in [
        ("liveness_interval_seconds", json!(-1)),
        ("liveness_deadline_seconds", json!(0.01)),
        ("liveness_path", json!("live")),
        ("liveness_path", json!("/li ve")),
    ] {
        let package = PackageBuilder::new("hangs").main(HANGS);
        let answer = scene.spawn(&package, &json!({ name: value }));
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert!(answer.text().contains(name), "{}", answer.text());
    }
    let package = PackageBuilder::new("hangs")
        .main(HANGS)
        .manifest(&exports(&["hold"]));
    let package = package.apkg(scene.folder());
    let package = package.to_str().expect("a readable path");
    let url = scene.system.url();
    let probed = ["--liveness-interval", "0.2", "--liveness-deadline", "1"];
    par(["deploy", package, "--url", url].iter().chain(&probed)).ended_with(0);
    scene.call_within(30.0, "hangs", "hold");
    wait_for("it is back", crate::scene::PATIENCE, || {
        (scene.process("hangs")["restart_count"] == 1).then_some(())
    });
}
