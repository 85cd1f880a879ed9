//! `par run` and `par doctor`: what needs no supervisor, but a Python.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use par_testkit::{Http, PackageBuilder, PortRange};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::tempdir;

use crate::ran::{par, par_in};

#[test]
fn a_package_is_served_alone_where_the_environment_says() {
    let folder = tempdir().expect("a temporary folder");
    let ports = PortRange::claim();
    let package = PackageBuilder::new("echo").main("def handler(body):\n    return body\n");
    let mut served = Command::new(env!("CARGO_BIN_EXE_par"))
        .arg("run")
        .env("AGENT_PACKAGE_PATH", package.apkg(folder.path()))
        .env("REST_PORT", ports.first.to_string())
        .env("A2A_PORT", (ports.first + 10_000).to_string())
        .env("PAR_STATE", folder.path().join("state"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stdout = served
        .stdout
        .take()
        .expect("it was spawned with a piped stdout");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let url = format!("http://127.0.0.1:{}", ports.first);
    assert_eq!(lines.next(), Some(format!("serving at {url}")));
    let answer = Http::new(&url)
        .post("/invoke", &serde_json::json!([1]))
        .expect("an answer");
    assert_eq!(answer.json(), serde_json::json!([1]));
    kill_process(Pid::from_child(&served), Signal::INT).expect("a child can be signalled");
    assert_eq!(served.wait().expect("it ends").code(), Some(0));
    assert_eq!(ports.taken(), Vec::<u16>::new());
}

#[test]
fn a_package_that_cannot_be_served_alone_says_why() {
    let folder = tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("x.apkg"), "no zip").expect("written");
    let state = folder.path().join("state");
    let state = state.to_str().expect("a path");
    let ran = par_in(folder.path(), ["run", "x.apkg", "--state", state], "").ended_with(5);
    assert!(
        ran.stderr.contains("the package is refused"),
        "{}",
        ran.stderr
    );
}

#[test]
fn doctor_finds_nothing_that_stops_agents_here() {
    let folder = tempdir().expect("a temporary folder");
    let state = folder.path().join("not/yet/there");
    let words = [
        "doctor",
        "--json",
        "--state",
        state.to_str().expect("a path"),
    ];
    let findings = par(words).ended_with(0).json();
    for check in [
        "python",
        "installer",
        "state",
        "supervisor",
        "kernel",
        "isolation",
    ] {
        let found = findings
            .as_array()
            .into_iter()
            .flatten()
            .any(|finding| finding["check"] == check);
        assert!(found, "{check} is missing in {findings}");
    }
    assert!(!state.exists(), "doctor changes nothing");
}

#[test]
fn doctor_says_what_to_do_about_what_is_missing() {
    let folder = tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("par.toml"), "colour = 1\n").expect("written");
    let words = [
        "doctor",
        "--python",
        "/nowhere/python3",
        "--url",
        "http://127.0.0.1:1",
    ];
    let ran = par_in(folder.path(), words, "").ended_with(1);
    for said in [
        "fail  settings",
        "par.toml:1:1",
        "none at http://127.0.0.1:1",
        "start one with `par up`",
    ] {
        assert!(
            ran.stdout.contains(said),
            "{said} is missing in {}",
            ran.stdout
        );
    }
    let ran = par(["doctor", "--python", "/nowhere/python3"]).ended_with(1);
    assert!(ran.stdout.contains("fail  python"), "{}", ran.stdout);
    assert!(ran.stdout.contains("PAR_PYTHON"), "{}", ran.stdout);
}
