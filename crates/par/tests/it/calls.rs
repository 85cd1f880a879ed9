//! `par call` and `par logs` against real agents.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use par_testkit::{PackageBuilder, wait_for};

use crate::ran::par_in;
use crate::running::Running;

const ODD: &str = r#"
import sys

def handler(body):
    return {"got": body, "z": 1, "a": 1180591620717411303424}

def boom(body):
    raise RuntimeError("no such luck")

def nothing(body):
    return None

def chatter(body):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    return "said"

def count(body):
    for n in range(body["to"]):
        yield n
    if body.get("fail"):
        raise RuntimeError("midway")
"#;

fn odd() -> Running {
    let running = Running::start();
    let names = ["boom", "nothing", "chatter", "count"];
    let exports = names.map(|name| format!("  - name: {name}\n    handler: src.main:{name}\n"));
    let manifest = format!("exports:\n{}", exports.concat());
    running.write(&PackageBuilder::new("odd").main(ODD).manifest(&manifest));
    running.par(&["deploy", "odd"]).ended_with(0);
    running
}

#[test]
fn an_answer_is_printed_as_the_agent_wrote_it() {
    let running = odd();
    let said = running
        .par(&["call", "odd", "[1, 2.50]"])
        .ended_with(0)
        .stdout;
    assert_eq!(
        said,
        "{\"got\":[1,2.5],\"z\":1,\"a\":1180591620717411303424}\n"
    );
    assert_eq!(
        running
            .par(&["call", "odd", "nothing"])
            .ended_with(0)
            .stdout,
        "null\n"
    );
}

#[test]
fn a_body_comes_from_the_command_line_a_file_or_standard_input() {
    let running = odd();
    std::fs::write(running.folder().join("body.json"), "\"file\"").expect("written");
    let url = running.system.url();
    for (body, input, got) in [
        ("\"word\"", "", "word"),
        ("@body.json", "", "file"),
        ("-", "\"pipe\"", "pipe"),
    ] {
        let ran = par_in(running.folder(), ["--url", url, "call", "odd", body], input);
        assert_eq!(ran.ended_with(0).json()["got"], got);
    }
}

#[test]
fn a_call_that_fails_ends_with_1_and_points_to_the_logs() {
    let running = odd();
    let said = running.par(&["call", "odd", "boom"]).ended_with(1).stderr;
    assert!(said.contains("odd answered 500: no such luck"), "{said}");
    assert!(said.contains("logs odd"), "{said}");
    let logged = running
        .par(&["logs", "odd", "--level", "error"])
        .ended_with(0)
        .stdout;
    assert!(logged.contains("RuntimeError: no such luck"), "{logged}");
}

#[test]
fn an_export_that_is_not_there_ends_with_4() {
    let running = odd();
    let said = running
        .par(&["call", "odd", "missing"])
        .ended_with(4)
        .stderr;
    assert!(said.contains("Export 'missing' not found"), "{said}");
}

#[test]
fn a_call_is_given_up_after_its_timeout() {
    let running = Running::start();
    running.deploy(
        "slow",
        "import time\ndef handler(body):\n    time.sleep(body['s'])\n",
    );
    let words = ["call", "slow", "{\"s\": 3}", "--timeout", "0.2"];
    running.par(&words).ended_with(6);
}

#[test]
fn a_generator_streams_when_it_is_asked_to_and_is_a_list_otherwise() {
    let running = odd();
    let said = running
        .par(&["call", "odd", "count", "{\"to\": 3}"])
        .ended_with(0)
        .stdout;
    assert_eq!(said, "[0,1,2]\n");
    let said = running
        .par(&["call", "odd", "count", "{\"to\": 3}", "--stream"])
        .ended_with(0)
        .stdout;
    assert_eq!(said, "0\n1\n2\n");
}

#[test]
fn a_stream_that_fails_midway_shows_what_came_and_ends_with_1() {
    let running = odd();
    let words = [
        "call",
        "odd",
        "count",
        "{\"to\": 2, \"fail\": true}",
        "--stream",
    ];
    let ran = running.par(&words).ended_with(1);
    assert_eq!(ran.stdout, "0\n1\n");
    assert!(ran.stderr.contains("midway"), "{}", ran.stderr);
}

#[test]
fn logs_tell_streams_apart_and_know_levels() {
    let running = odd();
    running.par(&["call", "odd", "chatter"]).ended_with(0);
    let logged = wait_for("both lines", Duration::from_secs(10), || {
        let logged = running.par(&["logs", "odd"]).ended_with(0).stdout;
        (logged.contains("INFO to stdout") && logged.contains("ERROR to stderr")).then_some(logged)
    });
    assert!(logged.contains(" odd INFO to stdout\n"), "{logged}");
    let errors = running
        .par(&["logs", "--level", "error"])
        .ended_with(0)
        .stdout;
    assert!(
        errors.contains("to stderr") && !errors.contains("to stdout"),
        "{errors}"
    );
    let last = running
        .par(&["logs", "-n", "1", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(last["process_id"], "par-odd");
}

#[test]
fn followed_logs_show_a_line_when_it_is_written() {
    let running = odd();
    let mut follower = Command::new(env!("CARGO_BIN_EXE_par"))
        .args(["--url", running.system.url(), "logs", "odd", "--follow"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stdout = follower
        .stdout
        .take()
        .expect("it was spawned with a piped stdout");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    running.par(&["call", "odd", "chatter"]).ended_with(0);
    let seen = lines.find(|line| line.contains("to stdout"));
    assert!(seen.is_some(), "the stream ended without the line");
    follower.kill().expect("it can be killed");
    follower.wait().expect("it can be waited for");
}
