//! What happened is kept over restarts, shown, and followed from any number on.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use par_testkit::{System, wait_for};
use serde_json::{Value, json};

use crate::ran::{Ran, par};
use crate::scene::PATIENCE;

fn start(state: &std::path::Path) -> System {
    System::builder(env!("CARGO_BIN_EXE_par"))
        .state(state)
        .start()
}

/// Newest first.
fn events(system: &System, query: &str) -> Vec<Value> {
    let path = format!("/supervisor/events?{query}");
    let answer = system.http().get(&path).expect("an answer").json();
    let events = answer["events"].as_array().cloned().expect("a list");
    assert_eq!(answer["count"], events.len());
    events
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["kind"].as_str().expect("a kind"))
        .collect()
}

fn shown(system: &System, words: &[&str]) -> Ran {
    let all = ["--url", system.url(), "events"];
    par(all.iter().chain(words)).ended_with(0)
}

#[test]
fn events_outlive_a_supervisor_that_ended_and_one_that_was_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    start(folder.path()).stop();
    let killed = start(folder.path());
    wait_for("its start is written", PATIENCE, || {
        (events(&killed, "").len() == 3).then_some(())
    });
    killed.kill();
    let system = start(folder.path());
    let seen = wait_for("its start is written", PATIENCE, || {
        let events = events(&system, "");
        (events.len() == 4).then_some(events)
    });
    let expected = [
        "supervisor_started",
        "supervisor_started",
        "supervisor_ended",
        "supervisor_started",
    ];
    assert_eq!(kinds(&seen), expected);
    let ids: Vec<u64> = seen
        .iter()
        .filter_map(|event| event["id"].as_u64())
        .collect();
    assert_eq!(ids, [4, 3, 2, 1]);
    assert_eq!(events(&system, "after=3").len(), 1);
    assert_eq!(events(&system, "limit=2").len(), 2);
    assert_eq!(events(&system, "agent=ghost"), [json!(null); 0]);
    assert_eq!(events(&system, "since=1h").len(), 4);
    assert_eq!(
        events(&system, "since=2999-01-01T00:00:00Z"),
        [json!(null); 0]
    );
    let lines = shown(&system, &["-n", "2"]).stdout;
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(
        lines
            .lines()
            .all(|line| line.ends_with(" supervisor supervisor_started"))
    );
    let line = shown(&system, &["-n", "1", "--since", "1h", "--json"]).json();
    assert_eq!(line["id"], 4);
    assert_eq!(shown(&system, &["ghost"]).stdout, "");
    system.stop();
}

/// The first `count` numbers of a stream of events.
fn followed(system: &System, query: &str, header: &str, count: usize) -> Vec<String> {
    let address = system.url().trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    write!(
        stream,
        "GET /supervisor/events?follow=true{query} HTTP/1.1\r\nhost: {address}\r\n{header}\r\n"
    )
    .expect("written");
    let lines = BufReader::new(stream).lines();
    lines
        .map(|line| line.expect("the stream goes on"))
        .filter_map(|line| line.strip_prefix("id: ").map(str::to_owned))
        .take(count)
        .collect()
}

#[test]
fn a_stream_of_events_goes_on_from_the_last_that_was_seen() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    start(folder.path()).stop();
    let system = start(folder.path());
    wait_for("its start is written", PATIENCE, || {
        (events(&system, "").len() == 3).then_some(())
    });
    assert_eq!(followed(&system, "", "", 3), ["1", "2", "3"]);
    assert_eq!(followed(&system, "&limit=1", "", 1), ["3"]);
    assert_eq!(followed(&system, "&after=1", "", 2), ["2", "3"]);
    let header = "last-event-id: 2\r\n";
    assert_eq!(followed(&system, "&after=0", header, 1), ["3"]);
    system.stop();
}

#[test]
fn followed_events_are_shown_when_they_happen() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let system = start(folder.path());
    let mut follower = Command::new(env!("CARGO_BIN_EXE_par"))
        .args(["--url", system.url(), "events", "-f", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let stdout = follower.stdout.take().expect("it was spawned with a pipe");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let first: Value = serde_json::from_str(&lines.next().expect("a line")).expect("JSON");
    assert_eq!(first["kind"], "supervisor_started");
    follower.kill().expect("it goes on until it is told to end");
    follower.wait().expect("it can be waited for");
    system.stop();
}
