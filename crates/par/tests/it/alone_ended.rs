//! `par run` that is told to end while its agent works.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use par_testkit::{Http, PackageBuilder, PortRange, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::tempdir;

use crate::scene::PATIENCE;

#[test]
fn a_second_sigterm_waits_for_no_call() {
    let folder = tempdir().expect("a temporary folder");
    let (ports, called) = (
        PortRange::claim(),
        folder.path().join("state/agents/busy/called"),
    );
    let python = format!(
        "import time\ndef handler(body):\n    open({called:?}, 'w').close()\n    time.sleep(600)\n"
    );
    let package = PackageBuilder::new("busy").main(&python);
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
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("serving at"))
    );
    let http = Http::new(&format!("http://127.0.0.1:{}", ports.first));
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| http.post("/invoke", &serde_json::json!({})));
        wait_for("the call", PATIENCE, || called.exists().then_some(()));
        kill_process(Pid::from_child(&served), Signal::TERM).expect("a child can be signalled");
        wait_for("the drain", PATIENCE, || {
            let health = http.get("/health");
            health.map_or(Some(()), |answer| (answer.status != 200).then_some(()))
        });
        kill_process(Pid::from_child(&served), Signal::TERM).expect("a child can be signalled");
        assert_eq!(served.wait().expect("it ends").code(), Some(143));
        let answer = calling.join().expect("its thread ends");
        assert!(!answer.is_ok_and(|answer| answer.status == 200));
    });
}
