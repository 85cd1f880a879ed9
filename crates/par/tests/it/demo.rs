//! `par demo` as a newcomer runs it, on ports of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use par_testkit::{Http, PortRange};
use rustix::process::{Pid, Signal, kill_process};

use crate::ran::par;

#[test]
fn the_demo_deploys_agents_that_talk_and_run_code_and_leaves_nothing() {
    let ports = PortRange::claim();
    let ran = par([
        "demo",
        "--once",
        "--port",
        "0",
        "--agent-ports",
        &ports.argument(),
    ])
    .ended_with(0);
    for said in [
        format!(
            "agent-a  healthy  http://127.0.0.1:{}  {}",
            ports.first,
            ports.first + 10_000
        ),
        format!("agent-b  healthy  http://127.0.0.1:{}", ports.first + 1),
        "{\"asked\":\"agent-b\",\"answer\":{\"message\":\"Hello, Ada!\"}}".to_owned(),
        format!("python   healthy  http://127.0.0.1:{}", ports.first + 2),
        "exec python -c 'sum(range(10))'\n  45\n".to_owned(),
    ] {
        assert!(ran.stdout.contains(&said), "{said} is missing in {ran:?}");
    }
    assert_eq!(ports.taken(), Vec::<u16>::new());
}

#[test]
fn the_demo_in_json_is_one_object() {
    let ports = PortRange::claim();
    let words = [
        "demo",
        "--once",
        "--json",
        "--port",
        "0",
        "--agent-ports",
        &ports.argument(),
    ];
    let told = par(words).ended_with(0).json();
    assert_eq!(told["answer"]["answer"]["message"], "Hello, Ada!");
    assert_eq!(told["value"], 45);
    assert_eq!(told["health"]["healthy_agents"], 3);
}

#[test]
fn a_taken_port_is_told_with_what_to_do() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port().to_string();
    let said = par(["demo", "--once", "--port", &port])
        .ended_with(1)
        .stderr;
    assert!(
        said.contains(&format!("port {port} cannot be used")),
        "{said}"
    );
    assert!(said.contains("--port 0"), "{said}");
}

#[test]
fn the_demo_serves_until_it_is_told_to_end() {
    for signal in [Signal::INT, Signal::TERM] {
        let ports = PortRange::claim();
        let mut demo = Command::new(env!("CARGO_BIN_EXE_par"))
            .args(["demo", "--port", "0", "--agent-ports", &ports.argument()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdout = BufReader::new(
            demo.stdout
                .take()
                .expect("it was spawned with a piped stdout"),
        );
        let mut lines = stdout.by_ref().lines().map_while(Result::ok);
        lines
            .find(|line| line.contains("Ctrl-C ends"))
            .expect("it invites to try");
        let agent = Http::new(&format!("http://127.0.0.1:{}", ports.first + 1));
        assert_eq!(
            agent.get("/health").expect("an answer").json()["status"],
            "healthy"
        );
        kill_process(Pid::from_child(&demo), signal).expect("a child can be signalled");
        assert_eq!(demo.wait().expect("it ends").code(), Some(0), "{signal:?}");
        assert_eq!(ports.taken(), Vec::<u16>::new(), "{signal:?}");
    }
}

#[test]
fn a_demo_whose_agents_cannot_start_says_why_and_leaves_nothing() {
    let ports = PortRange::claim();
    let words = [
        "demo",
        "--once",
        "--python",
        "/nowhere/python3",
        "--port",
        "0",
        "--agent-ports",
        &ports.argument(),
    ];
    let said = par(words).ended_with(1).stderr;
    assert!(said.contains("/nowhere/python3"), "{said}");
    assert_eq!(ports.taken(), Vec::<u16>::new());
}
