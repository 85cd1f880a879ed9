//! Callers who hold on to things, and agents who break the rules, cost themselves and nobody else.

use std::fs;

use par_testkit::{PackageBuilder, wait_for};
use serde_json::{Value, json};

use crate::raw::Raw;
use crate::scene::{PATIENCE, Scene, exports};

const ODD: &str = r#"
import os, threading, time

def handler(body):
    return {"threads": threading.active_count()}

def sockets():
    names = os.listdir("/proc/self/fd")
    links = {int(name): os.path.realpath(f"/proc/self/fd/{name}") for name in names}
    return [fd for fd, link in links.items() if "socket:" in link]

def sleep(body):
    time.sleep(4)

def big(body):
    return "x" * (60 << 20)

def close_everything(body):
    for fd in sockets():
        os.close(fd)
    time.sleep(600)

def babble(body):
    for fd in sockets():
        os.write(fd, b"\xff" * 4096)
    time.sleep(600)
"#;

fn odd(scene: &Scene) {
    let names = ["sleep", "big", "close_everything", "babble"];
    let package = PackageBuilder::new("odd")
        .main(ODD)
        .manifest(&exports(&names));
    scene.serve(&package, &json!({}));
}

/// A caller that has asked and does not read yet.
fn call(scene: &Scene, export: &str) -> Raw {
    let mut caller = Raw::connect(scene.system.url());
    let request = format!("POST /agents/odd/exports/{export}");
    caller.send_head(&request, &["content-length: 2"]);
    caller.send(b"{}").expect("sent");
    caller
}

/// Kilobytes in a field of a process's status.
fn kilobytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.trim_start_matches(':').split_ascii_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

#[test]
fn callers_who_leave_do_not_let_more_handlers_run_than_there_are_places() {
    let scene = Scene::start();
    odd(&scene);
    let agent = scene.pid("odd", "agent_pid");
    let callers = || -> Vec<Raw> { (0..64).map(|_| call(&scene, "sleep")).collect() };
    let first = callers();
    wait_for("the places are taken", PATIENCE, || {
        (threads(agent) > 60).then_some(())
    });
    drop(first);
    // These come while the handlers of the first still sleep.
    let second = callers();
    let look = || {
        scene.status();
        threads(agent)
    };
    let most = (0..50).map(|_| look()).max();
    assert!(most < Some(64 + 24), "{most:?} threads");
    drop(second);
    let answer = scene.call("odd", &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn who_sends_a_body_slowly_takes_nobodys_place() {
    let scene = Scene::start();
    odd(&scene);
    let slow: Vec<Raw> = (0..80)
        .map(|_| {
            let mut caller = Raw::connect(scene.system.url());
            caller.send_head("POST /agents/odd/invoke", &["content-length: 60000000"]);
            caller.send(b"{").expect("sent");
            caller
        })
        .collect();
    let answer = scene.call("odd", &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(slow);
}

#[test]
fn large_answers_that_nobody_reads_are_bounded_together() {
    let scene = Scene::start();
    odd(&scene);
    let worker = scene.pid("odd", "pid");
    let mut callers: Vec<Raw> = (0..10).map(|_| call(&scene, "big")).collect();
    let statuses: Vec<String> = callers
        .iter_mut()
        .map(|caller| caller.head().remove(0))
        .collect();
    let taken = statuses
        .iter()
        .filter(|status| status.contains(" 200 "))
        .count();
    let refused = statuses
        .iter()
        .filter(|status| status.contains(" 503 "))
        .count();
    assert_eq!((taken, refused), (4, 6), "{statuses:?}");
    let peak = kilobytes(worker, "VmHWM");
    assert!(peak < 700 << 10, "the worker took {peak} kB");
    drop(callers);
    wait_for("room for a large answer", PATIENCE, || {
        let answer = scene.call_within(30.0, "odd", "big");
        (answer.status == 200).then_some(())
    });
}

#[test]
fn streams_that_live_long_leave_room_for_calls() {
    let scene = Scene::start();
    scene.asgi(
        "ticker",
        r#"
import asyncio

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    if scope["path"] == "/forever":
        await asyncio.sleep(600)
    await send({"type": "http.response.body", "body": b""})
"#,
    );
    let mut listeners: Vec<Raw> = (0..80)
        .map(|_| {
            let mut listener = Raw::connect(scene.system.url());
            listener.send_head("GET /agents/ticker/forever", &[]);
            listener
        })
        .collect();
    for listener in &mut listeners {
        assert!(listener.head()[0].contains(" 200 "));
    }
    let answer = scene.http().get("/agents/ticker/short").expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, "first".to_owned()));
}

#[track_caller]
fn breaks_and_comes_back(export: &str, why: &str) {
    let scene = Scene::start();
    odd(&scene);
    let before = scene.pid("odd", "agent_pid");
    let answer = scene.call_within(30.0, "odd", export);
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains(why), "{}", answer.text());
    let back = |process: &Value| process["state"] == "running" && process["agent_pid"] != before;
    let process = scene.wait_for_process("odd", "back", back);
    assert_eq!(process["restart_count"], 1);
}

#[test]
fn an_agent_that_closes_its_channel_has_crashed() {
    breaks_and_comes_back("close_everything", "exited with code");
}

#[test]
fn an_agent_that_babbles_into_its_channel_has_broken_the_protocol() {
    breaks_and_comes_back("babble", "broke the protocol");
}
