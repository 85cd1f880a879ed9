//! What agents write, as whoever looks after them finds it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use futures_util::StreamExt as _;
use par_testkit::{PackageBuilder, PortRange, wait_for};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::ran::par;
use crate::raw::Raw;
use crate::scene::{PATIENCE, Scene, exports};

const SPEAKS: &str = r#"
import asyncio, ctypes, logging, os, subprocess, sys, threading, time

meeting = threading.Barrier(2, timeout=30)

def handler(body):
    print(body["say"])

def together(body):
    for step in range(20):
        meeting.wait()
        print("thread", body["n"], step)
    print("part of", body["n"], end="", flush=True)

here = []

async def overlap(body):
    here.append(body["n"])
    while len(here) < 2:
        await asyncio.sleep(0.001)
    for step in range(20):
        print("task", body["n"], step)
        await asyncio.sleep(0)
    return body["n"]

def children(body):
    print("python")
    sys.stdout.flush()
    subprocess.run(["echo", "a child"])
    ctypes.CDLL(None).puts(b"c code")
    ctypes.CDLL(None).fflush(None)
    logging.getLogger("it").warning("careful")

def long(body):
    print("x" * (1 << 20))
    print("end of long")

def binary(body):
    sys.stdout.buffer.write(bytes(range(256)))
    sys.stdout.buffer.flush()
    print("\nend of binary")

def flood(body):
    for number in range(body["lines"]):
        print("flood", number, "y" * 200)
    print("end of flood")

def fails(body):
    raise ValueError("on purpose")
"#;

fn speaks(scene: &Scene, name: &str) {
    let names = [
        "together", "overlap", "children", "long", "binary", "flood", "fails",
    ];
    let package = PackageBuilder::new(name)
        .main(SPEAKS)
        .manifest(&exports(&names));
    scene.serve(&package, &json!({}));
}

fn say(scene: &Scene, agent: &str, words: &str) {
    assert_eq!(scene.call(agent, &json!({ "say": words })).status, 200);
    scene.wait_for_log(agent, words);
}

/// Calls an export under a name.
fn call_as(scene: &Scene, name: &str, export: &str, body: &Value) {
    let headers = [("x-request-id", name), ("content-type", "application/json")];
    let path = format!("/agents/speaks/exports/{export}");
    let answer = scene
        .http()
        .request("POST", &path, &headers, body.to_string().as_bytes());
    let answer = answer.expect("an answer");
    assert_eq!(
        (answer.status, answer.header("x-request-id")),
        (200, Some(name))
    );
}

fn get(scene: &Scene, query: &str) -> Vec<Value> {
    let answer = scene.http().get(&format!("/supervisor/logs?{query}"));
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut lines = answer.json()["logs"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    lines.reverse();
    lines
}

fn messages(lines: &[Value]) -> Vec<&str> {
    let messages = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap_or_default());
    messages.collect()
}

/// `par logs -f`, and its lines as they come.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(url: &str, words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_par"))
            .args(["logs", "-f", "--url", url])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let stdout = child
            .stdout
            .take()
            .expect("it was spawned with a piped stdout");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The test may be over.
                drop(sender.send(line));
            }
        });
        Self { child, lines }
    }

    #[track_caller]
    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line comes")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn lines_outlive_the_supervisor_and_go_with_their_agent() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let start = || Scene::with(|builder| builder.state(state.path()));
    let scene = start();
    speaks(&scene, "speaks");
    speaks(&scene, "other");
    say(&scene, "speaks", "in the first life");
    say(&scene, "other", "elsewhere");
    let before = scene.logs("speaks");
    let Scene { system, .. } = scene;
    system.stop();
    let scene = start();
    let told = get(&scene, "process_id=par-speaks&grep=first%20life");
    assert_eq!(messages(&told), ["in the first life"]);
    let kept = before.iter().find(|line| line["id"] == told[0]["id"]);
    assert_eq!(kept, Some(&told[0]), "the line is as it was");
    scene.wait_until("speaks", "running");
    say(&scene, "speaks", "in the second life");
    let told = get(&scene, "process_id=speaks&grep=life");
    assert_eq!(messages(&told), ["in the first life", "in the second life"]);
    let cleared = scene
        .http()
        .delete("/supervisor/logs?process_id=par-speaks");
    assert_eq!(cleared.expect("an answer").status, 200);
    assert!(!state.path().join("logs/speaks").exists());
    assert_eq!(messages(&get(&scene, "grep=elsewhere")), ["elsewhere"]);
    say(&scene, "speaks", "once more");
    par(["rm", "speaks", "--url", scene.system.url()]).ended_with(0);
    wait_for("the lines are gone", PATIENCE, || {
        (!state.path().join("logs/speaks").exists()).then_some(())
    });
}

#[test]
fn a_supervisor_that_is_killed_loses_no_line_that_was_seen() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let start = || Scene::with(|builder| builder.state(state.path()));
    let scene = start();
    speaks(&scene, "speaks");
    say(&scene, "speaks", "before the end");
    // Asked with more than memory has: what is on its way to the disk is waited for.
    get(&scene, "process_id=speaks&limit=10000");
    let Scene { system, .. } = scene;
    system.kill();
    let scene = start();
    let told = get(&scene, "process_id=speaks&grep=before%20the%20end");
    assert_eq!(messages(&told), ["before the end"]);
}

#[test]
fn calls_that_overlap_are_told_apart_by_the_names_that_their_callers_gave() {
    let scene = Scene::start();
    speaks(&scene, "speaks");
    for (export, word) in [("together", "thread"), ("overlap", "task")] {
        thread::scope(|scope| {
            for n in 0..2 {
                let scene = &scene;
                scope.spawn(move || {
                    call_as(scene, &format!("{word}-{n}"), export, &json!({ "n": n }))
                });
            }
        });
        for n in 0..2 {
            let expected: Vec<String> = (0..20).map(|step| format!("{word} {n} {step}")).collect();
            let told = wait_for("all that the call wrote", PATIENCE, || {
                let told = get(&scene, &format!("call={word}-{n}&grep={word}"));
                (told.len() >= 20).then_some(told)
            });
            assert_eq!(messages(&told), expected);
        }
    }
    let answer = scene.call("speaks", &json!({ "say": "without a name" }));
    let made_up = answer
        .header("x-request-id")
        .expect("it is told")
        .to_owned();
    let line = scene.wait_for_log("speaks", "without a name");
    assert_eq!(line["extra"]["call"], made_up);
    assert_eq!(
        line["extra"]["replica"].as_u64().map(|replica| replica > 0),
        Some(true)
    );
    // A part of a line that its call did not end comes once others write, as a line of its own.
    wait_for("the parts", PATIENCE, || {
        scene.call("speaks", &json!({ "say": "later" }));
        let parts = [0, 1].map(|n| get(&scene, &format!("call=thread-{n}&grep=part")));
        let told = parts.each_ref().map(|parts| messages(parts));
        (told == [["part of 0"], ["part of 1"]]).then_some(())
    });
}

#[test]
fn what_is_not_pythons_is_nobodys_and_levels_are_what_lines_say() {
    let scene = Scene::start();
    speaks(&scene, "speaks");
    call_as(&scene, "mine", "children", &json!({}));
    scene.wait_for_log("speaks", "careful");
    for (words, call) in [
        ("python", json!("mine")),
        ("a child", Value::Null),
        ("c code", Value::Null),
    ] {
        let line = scene.wait_for_log("speaks", words);
        assert_eq!(line["extra"]["call"], call, "{words}");
        assert_eq!(line["level"], "INFO", "{words}");
    }
    let path = "/agents/speaks/exports/fails";
    let failed = scene
        .http()
        .request("POST", path, &[("x-request-id", "failed")], b"{}");
    let failed = failed.expect("an answer");
    assert_eq!(
        (failed.status, failed.header("x-request-id")),
        (500, Some("failed"))
    );
    scene.wait_for_log("speaks", "ValueError: on purpose");
    let told = get(&scene, "call=failed");
    assert_eq!(messages(&told)[0], "Traceback (most recent call last):");
    assert!(told.iter().all(|line| line["level"] == "ERROR"), "{told:?}");
    let grave = get(&scene, "min_level=error&process_id=speaks");
    assert!(grave.iter().all(|line| line["level"] == "ERROR"));
}

#[test]
fn endless_lines_bytes_and_floods_are_bounded_and_hold_up_nobody() {
    let scene = Scene::start();
    speaks(&scene, "speaks");
    call_as(&scene, "long", "long", &json!({}));
    scene.wait_for_log("speaks", "end of long");
    let pieces = get(&scene, "call=long&grep=xxx&limit=10000");
    let lengths: Vec<usize> = messages(&pieces).iter().map(|piece| piece.len()).collect();
    assert_eq!(lengths, [64 << 10; 16]);
    call_as(&scene, "binary", "binary", &json!({}));
    scene.wait_for_log("speaks", "end of binary");
    let told = get(&scene, "call=binary");
    assert!(messages(&told).concat().contains("ABCDEFGH"), "{told:?}");
    call_as(&scene, "flood", "flood", &json!({ "lines": FLOOD }));
    say(&scene, "speaks", "still there");
    // Every line is in the files, or counted among those that were dropped.
    let counted = |words: &str| -> usize {
        let query = format!("process_id=speaks&grep={words}&limit=10000");
        let told = get(&scene, &query);
        let numbers = messages(&told)
            .into_iter()
            .filter_map(|line| line.split(' ').next()?.parse::<usize>().ok());
        numbers.sum()
    };
    let in_files = || -> usize {
        let folder = scene.system.state().join("logs/speaks");
        let files = std::fs::read_dir(folder).expect("it has logs").flatten();
        let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        texts
            .map(|text| text.matches("\"message\":\"flood ").count())
            .sum()
    };
    wait_for("every line is told of", PATIENCE, || {
        let dropped = counted("were+dropped") + counted("are+not+kept");
        (in_files() + dropped == FLOOD).then_some(())
    });
}

const FLOOD: usize = 50_000;

#[test]
fn conditions_are_put_together_and_mistakes_are_named() {
    let scene = Scene::start();
    speaks(&scene, "speaks");
    speaks(&scene, "other");
    for (agent, words) in [
        ("speaks", "ERROR:x:red fox"),
        ("other", "INFO:x:red hen"),
        ("speaks", "INFO:x:red cat"),
    ] {
        say(&scene, agent, words);
    }
    for (query, expected) in [
        (
            "grep=red",
            vec!["ERROR:x:red fox", "INFO:x:red hen", "INFO:x:red cat"],
        ),
        (
            "grep=red&process_id=par-speaks,other&min_level=warning",
            vec!["ERROR:x:red fox"],
        ),
        (
            "grep=red&process_id=other&process_id=speaks&limit=2",
            vec!["INFO:x:red hen", "INFO:x:red cat"],
        ),
        ("grep=red&since=10m&level=error", vec!["ERROR:x:red fox"]),
        ("grep=red&since=2999-01-01T00:00:00Z", vec![]),
        ("grep=RED", vec![]),
    ] {
        assert_eq!(messages(&get(&scene, query)), expected, "{query}");
    }
    for query in ["process_id=", "process_id=speaks,", "process_id=.."] {
        let answer = scene.http().delete(&format!("/supervisor/logs?{query}"));
        assert_eq!(answer.expect("an answer").status, 400, "{query}");
    }
    for query in ["since=soon", "replica=x", "after=-1", "process_id=../x"] {
        let answer = scene.http().get(&format!("/supervisor/logs?{query}"));
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
    let url = scene.system.url();
    let ran = par([
        "logs", "--grep", "red", "--level", "error", "--since", "10m", "--url", url,
    ]);
    let shown = ran.ended_with(0).stdout;
    assert_eq!(shown.lines().count(), 1, "{shown}");
    assert!(shown.contains(" speaks ERROR ERROR:x:red fox"), "{shown}");
}

#[test]
fn two_agents_are_followed_through_a_new_supervisor_without_loss_and_without_repetition() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let ports = PortRange::claim();
    let start = || Scene::with(|builder| builder.state(state.path()).port(ports.first));
    let scene = start();
    speaks(&scene, "speaks");
    speaks(&scene, "other");
    say(&scene, "speaks", "said 0");
    let following = Following::start(
        scene.system.url(),
        &["speaks", "other", "--grep", "said", "--json"],
    );
    let heard = || {
        let line: Value = serde_json::from_str(&following.next()).expect("JSON");
        format!(
            "{} {}",
            line["process_id"].as_str().unwrap_or_default(),
            line["message"].as_str().unwrap_or_default()
        )
    };
    assert_eq!(heard(), "par-speaks said 0");
    say(&scene, "other", "said 1");
    assert_eq!(heard(), "par-other said 1");
    let Scene { system, .. } = scene;
    system.stop();
    let scene = start();
    scene.wait_until("speaks", "running");
    scene.wait_until("other", "running");
    for n in 2..6 {
        let agent = if n % 2 == 0 { "speaks" } else { "other" };
        say(&scene, agent, &format!("said {n}"));
        assert_eq!(heard(), format!("par-{agent} said {n}"));
    }
}

#[test]
fn events_have_numbers_to_go_on_from() {
    let scene = Scene::start();
    speaks(&scene, "speaks");
    say(&scene, "speaks", "first");
    say(&scene, "speaks", "second");
    let first = scene.wait_for_log("speaks", "first")["id"].to_string();
    let mut follower = Raw::connect(scene.system.url());
    let header = format!("last-event-id: {first}");
    follower.send_head(
        "GET /supervisor/logs?follow=true&process_id=speaks",
        &[&header],
    );
    let head = follower.head();
    assert!(head[0].contains(" 200 "), "{head:?}");
    let event = String::from_utf8_lossy(&follower.chunk()).into_owned();
    assert!(
        event.contains("id: ") && event.contains("second"),
        "{event}"
    );
}

#[test]
fn a_websocket_follows_too_and_goes_on_after_a_line() {
    let scene = Scene::start();
    speaks(&scene, "speaks");
    say(&scene, "speaks", "before");
    let before = scene.wait_for_log("speaks", "before")["id"].clone();
    let url = scene.system.url().replace("http://", "ws://");
    let url = format!("{url}/supervisor/logs?follow=true&process_id=speaks&after={before}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let address = scene.system.url().trim_start_matches("http://").to_owned();
    runtime.expect("a runtime").block_on(async {
        let stream = tokio::net::TcpStream::connect(address)
            .await
            .expect("somebody listens");
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream)
            .await
            .expect("a WebSocket");
        let scene = &scene;
        thread::scope(|scope| {
            scope.spawn(move || say(scene, "speaks", "after"));
        });
        let next = async {
            loop {
                match socket.next().await.expect("it stays").expect("a message") {
                    Message::Text(text) => return text,
                    _ => continue,
                }
            }
        };
        let line = tokio::time::timeout(PATIENCE, next)
            .await
            .expect("a line comes");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["message"], "after");
        socket.close(None).await.expect("a goodbye");
    });
    let incomplete = ["connection: upgrade", "upgrade: websocket"];
    let mut stranger = Raw::connect(scene.system.url());
    stranger.send_head("GET /supervisor/logs?follow=true", &incomplete);
    assert!(stranger.head()[0].contains(" 400 "));
}
