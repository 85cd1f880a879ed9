//! However a supervisor ends, nothing of it stays.

use std::time::Duration;

use par_testkit::{System, wait_for};

use crate::running::Running;

const ECHO: &str = "def handler(body):\n    return body\n";

#[test]
fn a_supervisor_that_is_told_to_end_takes_its_agents_along() {
    let running = Running::start();
    running.deploy("a", ECHO);
    running.deploy("b", ECHO);
    assert!(
        running.system.descendants().len() >= 4,
        "two workers, two agents"
    );
    let ended = running.system.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
}

#[test]
fn a_supervisor_that_is_killed_leaves_no_worker_and_no_agent() {
    let running = Running::start();
    running.deploy("a", ECHO);
    running.deploy("b", ECHO);
    running.system.kill();
}

#[test]
fn a_second_supervisor_on_the_same_state_or_port_is_refused() {
    let running = Running::start();
    let port = running
        .system
        .url()
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    let state = running.folder().join("other-state");
    let state = state.to_str().expect("a path");
    let ran = running
        .par(&["up", "--port", &port, "--state", state])
        .ended_with(1);
    assert!(ran.stderr.contains(&port), "{}", ran.stderr);
    let same = running.system.state().to_str().expect("a path");
    let ran = running
        .par(&["up", "--port", "0", "--state", same])
        .ended_with(1);
    assert!(ran.stderr.contains(same), "{}", ran.stderr);
}

#[test]
fn agents_that_par_toml_lists_come_up_by_themselves() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let agent = par_testkit::PackageBuilder::new("listed").main(ECHO);
    agent
        .folder(folder.path())
        .expect("its files can be written");
    let config = folder.path().join("par.toml");
    std::fs::write(&config, "[[agents]]\npackage = \"listed\"\n").expect("written");
    let system = System::builder(env!("CARGO_BIN_EXE_par"))
        .arguments([std::ffi::OsStr::new("--config"), config.as_os_str()])
        .start();
    wait_for("the listed agent", Duration::from_secs(20), || {
        let status = system
            .http()
            .get("/supervisor/status")
            .expect("an answer")
            .json();
        (status["processes"]["par-listed"]["state"] == "running").then_some(())
    });
}
