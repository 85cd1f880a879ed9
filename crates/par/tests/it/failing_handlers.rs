//! A handler may raise, exit, crash, flood or answer nonsense: its call fails clearly, and nobody else notices.

use std::thread;

use par_testkit::PackageBuilder;
use serde_json::json;

use crate::scene::{Scene, exports};

const WILD: &str = r#"
import ctypes, os, signal, sys

def handler(body):
    return body

def boom(body):
    raise RuntimeError("no such luck")

def leave(body):
    sys.exit("I am off")

def exit_now(body):
    os._exit(7)

def crash(body):
    ctypes.string_at(0)

def suicide(body):
    os.kill(os.getpid(), signal.SIGKILL)

def nan(body):
    return {"x": float("nan")}

def raw(body):
    return b"\x00\xff"

def thing(body):
    return {"x": object()}

def large(body):
    return "x" * (5 << 20)

def deep(body):
    nested = []
    for _ in range(100_000):
        nested = [nested]
    return nested

def flood(body):
    piece = b"\x00\xff" * (1 << 19)
    for _ in range(200):
        os.write(1, piece)
    return "flooded"

def long_lines(body):
    os.write(1, b"<" + b"q" * 200_000 + b">\n")
    os.write(2, b"\xff\xfe broken \x00 bytes\n")
    os.write(1, b"no end")
    return "said"
"#;

const EXPORTS: [&str; 11] = [
    "boom", "leave", "exit_now", "crash", "suicide", "nan", "raw", "thing", "large", "deep",
    "flood",
];

fn wild(scene: &Scene) {
    let package = PackageBuilder::new("wild").main(WILD).manifest(
        &(exports(&EXPORTS) + "  - name: long_lines\n    handler: src.main:long_lines\n"),
    );
    let quickly = json!({"restart_delay_seconds": 0.01, "max_restarts": 100});
    scene.serve(&package, &quickly);
}

#[test]
fn what_a_handler_does_wrong_is_said_to_its_caller_and_hurts_nobody() {
    let scene = Scene::start();
    wild(&scene);
    let before = scene.pid("wild", "agent_pid");
    for (export, said) in [
        ("boom", "no such luck"),
        ("leave", "I am off"),
        ("nan", "not JSON"),
        ("raw", "not JSON"),
        ("thing", "not JSON"),
        ("deep", "not JSON"),
    ] {
        let answer = scene.call_within(30.0, "wild", export);
        assert_eq!(answer.status, 500, "{export}: {}", answer.text());
        let detail = answer.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .to_lowercase();
        assert!(detail.contains(&said.to_lowercase()), "{export}: {detail}");
        assert!(!detail.is_empty(), "{export}");
    }
    assert_eq!(scene.call("wild", &json!({"a": 1})).json(), json!({"a": 1}));
    assert_eq!(scene.pid("wild", "agent_pid"), before, "the same process");
    let line = scene.wait_for_log("wild", "RuntimeError: no such luck");
    assert_eq!(line["level"], "ERROR");
    scene.wait_for_log("wild", "in boom");
}

#[test]
fn an_agent_that_dies_in_a_call_fails_that_call_and_comes_back() {
    let scene = Scene::start();
    wild(&scene);
    scene.agent("other", "def handler(body):\n    return body\n");
    let untouched = scene.pid("other", "agent_pid");
    for (export, said) in [
        ("exit_now", "exited with code 7"),
        ("crash", "SIGSEGV"),
        ("suicide", "SIGKILL"),
    ] {
        let before = scene.pid("wild", "agent_pid");
        let answer = scene.call_within(30.0, "wild", export);
        assert_eq!(answer.status, 502, "{export}: {}", answer.text());
        assert!(answer.text().contains(said), "{export}: {}", answer.text());
        scene.wait_for_process("wild", "back", |process| {
            process["state"] == "running" && process["agent_pid"] != before
        });
        assert_eq!(scene.call("wild", &json!([export])).json(), json!([export]));
    }
    assert_eq!(scene.call("other", &json!(1)).json(), json!(1));
    assert_eq!(scene.pid("other", "agent_pid"), untouched);
}

#[test]
fn an_answer_of_five_megabytes_comes_whole() {
    let scene = Scene::start();
    wild(&scene);
    let answer = scene.call_within(30.0, "wild", "large");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json().as_str().map(str::len), Some(5 << 20));
}

#[test]
fn output_without_end_neither_hangs_the_agent_nor_fills_memory() {
    let scene = Scene::start();
    wild(&scene);
    thread::scope(|scope| {
        let flooding = scope.spawn(|| scene.call_within(60.0, "wild", "flood"));
        assert_eq!(scene.call("wild", &json!(1)).status, 200);
        let flooded = flooding.join().expect("its thread ends");
        assert_eq!(flooded.json(), "flooded", "{flooded:?}");
    });
    let resident = resident_bytes(scene.system.pid());
    assert!(
        resident < 100 << 20,
        "{resident} bytes after 200 MiB of output"
    );
    assert_eq!(scene.call("wild", &json!(2)).json(), json!(2));
}

#[test]
fn long_binary_and_unfinished_lines_are_kept() {
    let scene = Scene::start();
    wild(&scene);
    assert_eq!(scene.call_within(30.0, "wild", "long_lines").status, 200);
    scene.wait_for_log("wild", "q>");
    scene.wait_for_log("wild", "broken");
    let mut lines = scene.logs("wild");
    lines.reverse();
    let messages = lines.iter().filter_map(|line| line["message"].as_str());
    let said: String = messages.collect();
    assert_eq!(said.matches('q').count(), 200_000);
    // What has no end yet is a line when its writer is gone.
    assert_eq!(
        scene
            .http()
            .post("/supervisor/stop/wild", &json!({}))
            .expect("an answer")
            .status,
        200
    );
    scene.wait_for_log("wild", "no end");
}

fn resident_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes
        .and_then(|number| number.parse().ok())
        .expect("a number of kilobytes");
    kilobytes << 10
}
