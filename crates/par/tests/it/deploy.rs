//! `par deploy`, `ps`, `stop`, `start`, `restart` and `rm` against a real supervisor.

use par_testkit::{PackageBuilder, wait_for};
use std::time::Duration;

use crate::running::Running;

const ECHO: &str = "def handler(body):\n    return {'echo': body}\n";

#[test]
fn a_folder_is_packed_deployed_and_can_be_called_at_the_printed_url() {
    let running = Running::start();
    let said = running.deploy("echo", ECHO).stdout;
    let url = format!("{}/agents/echo/invoke", running.system.url());
    assert!(said.contains(&format!("echo is running: {url}")), "{said}");
    let answer = running
        .system
        .http()
        .post("/agents/echo/invoke", &serde_json::json!({"n": 1}))
        .expect("an answer");
    assert_eq!(answer.json(), serde_json::json!({"echo": {"n": 1}}));
}

#[test]
fn a_package_may_have_another_name_and_variables_of_its_deployer() {
    let running = Running::start();
    let python = "import os\ndef handler(body):\n    return [os.environ[k] for k in ('PAR_AGENT_ID', 'A', 'B')]\n";
    let apkg = PackageBuilder::new("plain")
        .main(python)
        .apkg(running.folder());
    std::fs::write(running.folder().join("x.env"), "A=file\nB='from file'\n").expect("written");
    let apkg = apkg.to_str().expect("a path");
    let words = [
        "deploy",
        apkg,
        "--name",
        "other",
        "--env",
        "A=flag",
        "--env-file",
        "x.env",
    ];
    running.par(&words).ended_with(0);
    let said = running.par(&["call", "other"]).ended_with(0).stdout;
    assert_eq!(said, "[\"other\",\"flag\",\"from file\"]\n");
}

#[test]
fn a_deployment_in_json_is_one_object() {
    let running = Running::start();
    running.write(&PackageBuilder::new("echo").main(ECHO));
    let deployed = running
        .par(&["deploy", "echo", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(deployed["agent_id"], "echo");
    assert_eq!(deployed["invoke_path"], "/agents/echo/invoke");
    assert_eq!(deployed["port"], running.system.ports().first);
}

#[test]
fn a_second_deployment_replaces_the_first() {
    let running = Running::start();
    running.deploy("it", "def handler(body):\n    return 1\n");
    running.deploy("it", "def handler(body):\n    return 2\n");
    assert_eq!(running.par(&["call", "it"]).ended_with(0).stdout, "2\n");
    let status = running.par(&["ps", "--json"]).ended_with(0).json();
    assert_eq!(
        status["processes"].as_object().map(serde_json::Map::len),
        Some(1)
    );
}

#[test]
fn an_agent_that_cannot_load_fails_with_its_traceback_and_ps_says_why() {
    let running = Running::start();
    running.write(&PackageBuilder::new("broken").main("import nowhere_to_be_found\n"));
    let ran = running.par(&["deploy", "broken"]).ended_with(1);
    assert!(ran.stderr.contains("Traceback"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("No module named 'nowhere_to_be_found'"),
        "{}",
        ran.stderr
    );
    let listed = running.par(&["ps"]).ended_with(0).stdout;
    assert!(listed.contains("failed"), "{listed}");
    assert!(listed.contains("nowhere_to_be_found"), "{listed}");
    let one = running.par(&["ps", "broken"]).ended_with(0).stdout;
    assert!(one.contains("Traceback"), "{one}");
}

#[test]
fn a_package_that_the_supervisor_refuses_ends_with_5_and_leaves_nothing() {
    let running = Running::start();
    std::fs::write(running.folder().join("x.apkg"), "no zip").expect("written");
    let ran = running.par(&["deploy", "x.apkg"]).ended_with(5);
    assert!(
        ran.stderr.contains("the package is refused"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("par inspect x.apkg"), "{}", ran.stderr);
    let status = running.par(&["ps", "--json"]).ended_with(0).json();
    assert_eq!(status["processes"], serde_json::json!({}));
}

#[test]
fn without_waiting_a_deployment_returns_before_the_agent_answers() {
    let running = Running::start();
    // It comes up only once the file is there: whoever waited for it would wait for ever.
    let python = "import os, time\nwhile not os.path.exists(os.environ['HOME'] + '/gate'):\n    time.sleep(0.01)\ndef handler(body):\n    return 'up'\n";
    running.write(&PackageBuilder::new("slow").main(python));
    let said = running
        .par(&["deploy", "slow", "--no-wait"])
        .ended_with(0)
        .stdout;
    assert!(said.contains("slow@0.1.0 is accepted"), "{said}");
    let state = || running.par(&["ps", "slow", "--json"]).json()["state"].clone();
    assert_eq!(state(), "starting");
    let gate = running.system.state().join("agents/slow/gate");
    std::fs::create_dir_all(gate.parent().expect("a folder")).expect("made");
    std::fs::write(gate, "").expect("written");
    wait_for("the slow agent", Duration::from_secs(20), || {
        (state() == "running").then_some(())
    });
}

#[test]
fn agents_are_stopped_started_restarted_and_forgotten() {
    let running = Running::start();
    running.deploy("echo", ECHO);
    let said = running.par(&["stop", "echo"]).ended_with(0).stdout;
    assert_eq!(said, "echo is stopped\n");
    running.par(&["call", "echo"]).ended_with(6);
    let said = running.par(&["start", "echo"]).ended_with(0).stdout;
    assert!(said.starts_with("echo is running at http://"), "{said}");
    running.par(&["call", "echo"]).ended_with(0);
    let pid = || running.par(&["ps", "echo", "--json"]).json()["pid"].clone();
    let before = pid();
    running.par(&["restart", "echo"]).ended_with(0);
    assert_ne!(pid(), before);
    let said = running.par(&["rm", "echo"]).ended_with(0).stdout;
    assert_eq!(said, "echo is removed\n");
    running.par(&["call", "echo"]).ended_with(4);
    let said = running.par(&["ps"]).ended_with(0).stderr;
    assert!(said.contains("no agents yet"), "{said}");
}

#[test]
fn an_agent_that_nobody_knows_ends_with_4() {
    let running = Running::start();
    for words in [
        &["ps", "ghost"][..],
        &["call", "ghost"],
        &["logs", "ghost"],
        &["stop", "ghost"],
        &["start", "ghost"],
        &["restart", "ghost"],
        &["rm", "ghost"],
    ] {
        let ran = running.par(words).ended_with(4);
        assert!(
            ran.stderr.contains("ghost"),
            "{words:?} said {}",
            ran.stderr
        );
        assert!(
            ran.stderr.contains("par ps") || ran.stderr.contains(" ps`"),
            "{}",
            ran.stderr
        );
    }
}
