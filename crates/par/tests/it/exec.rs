//! `par exec` against a real agent that has the execution backend: `examples/agents/python`.

use std::process::{Child, Command, Stdio};

use par_testkit::{PackageBuilder, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::ran::{Ran, par_in};
use crate::running::Running;
use crate::scene::PATIENCE;

pub(crate) const EXAMPLE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/agents/python");

/// A supervisor with the example, and what `par deploy` said of it.
pub(crate) fn python() -> (Running, Ran) {
    let running = Running::start();
    let said = running.par(&["deploy", EXAMPLE]).ended_with(0);
    (running, said)
}

fn exec(running: &Running, words: &[&str]) -> Ran {
    let words: Vec<&str> = ["exec", "python"].iter().chain(words).copied().collect();
    running.par(&words)
}

pub(crate) fn sessions(running: &Running) -> Vec<Value> {
    let answer = running.system.http().get("/agents/python/sessions");
    let listed = answer.expect("an answer").json();
    listed["sessions"].as_array().cloned().expect("a list")
}

/// Code that runs until somebody ends it.
fn endless(running: &Running, words: &[&str]) -> Child {
    let child = Command::new(env!("CARGO_BIN_EXE_par"))
        .args(["--url", running.system.url(), "exec", "python"])
        .args(words)
        .args(["-c", "import time\nwhile True:\n    time.sleep(0.02)"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    wait_for("the code runs", PATIENCE, || {
        let busy = sessions(running).iter().any(|it| it["state"] == "running");
        busy.then_some(())
    });
    child
}

#[test]
fn a_deployment_that_only_runs_code_says_how_to_ask_for_that() {
    let (running, said) = python();
    let url = running.system.url();
    let said = said.stdout;
    assert!(
        said.contains(&format!(
            "python is running: {url}/agents/python/sessions\n"
        )),
        "{said}"
    );
    assert!(said.contains("exec python -c 'print(1 + 1)'"), "{said}");
    let ran = exec(&running, &["-c", "print(1 + 1)"]).ended_with(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("2\n", ""));
}

#[test]
fn the_value_of_the_last_expression_follows_what_was_written_and_the_session_is_gone() {
    let (running, _) = python();
    for (code, stdout, stderr) in [
        ("sum(range(10))", "45\n", ""),
        ("'text'", "\"text\"\n", ""),
        (
            "print('a', end='')\n[1.5, None, 2 ** 63]",
            "a\n[1.5,null,9223372036854775808]\n",
            "",
        ),
        ("import sys\nprint('e', file=sys.stderr)", "", "e\n"),
        ("print('\\x1b[31m')", "\x1b[31m\n", ""),
        ("-1", "-1\n", ""),
        (
            "import sys\nprint('half', end='')\nprint('half', end='', file=sys.stderr)",
            "half",
            "half",
        ),
        (
            "print('x' * (1 << 20), end='')\nNone",
            &"x".repeat(1 << 20),
            "",
        ),
    ] {
        let ran = exec(&running, &["-c", code]).ended_with(0);
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            (stdout, stderr),
            "{code}"
        );
    }
    assert_eq!(sessions(&running), Vec::<Value>::new());
}

#[test]
fn code_comes_from_a_file_or_from_standard_input() {
    let (running, _) = python();
    std::fs::write(running.folder().join("code.py"), "x = 20\nx + 1\n").expect("written");
    std::fs::write(running.folder().join("no-text.py"), b"\xff\xfe").expect("written");
    for (word, input, value) in [
        (Some("code.py"), "", "21\n"),
        (Some("-"), "2 + 2", "4\n"),
        (None, "3 + 3\n", "6\n"),
    ] {
        let words = ["--url", running.system.url(), "exec", "python"];
        let ran = par_in(running.folder(), words.into_iter().chain(word), input).ended_with(0);
        assert_eq!(ran.stdout, value, "{word:?}");
    }
    let ran = exec(&running, &["no-text.py"]).ended_with(2);
    assert!(
        ran.stderr.contains("`no-text.py` is not text"),
        "{}",
        ran.stderr
    );
    let ran = exec(&running, &["missing.py"]).ended_with(1);
    assert!(ran.stderr.contains("`missing.py`"), "{}", ran.stderr);
}

#[test]
fn a_named_session_stays_and_remembers() {
    let (running, _) = python();
    let words = |code| ["--session", "mine", "-c", code];
    exec(&running, &words("x = [1]")).ended_with(0);
    exec(&running, &words("x.append(2)")).ended_with(0);
    assert_eq!(exec(&running, &words("x")).ended_with(0).stdout, "[1,2]\n");
    let listed = sessions(&running);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["session_id"], "mine");
    let larger = ["--session", "mine", "--tier", "medium", "-c", "x"];
    let ran = exec(&running, &larger).ended_with(1);
    assert!(ran.stderr.contains("began as SMALL"), "{}", ran.stderr);
}

#[test]
fn code_that_fails_ends_with_1_and_its_traceback_and_leaves_no_session() {
    let (running, _) = python();
    let ran = exec(&running, &["-c", "print('before')\n{}['key']"]).ended_with(1);
    assert_eq!(ran.stdout, "before\n");
    assert!(ran.stderr.starts_with("Traceback"), "{}", ran.stderr);
    assert!(
        ran.stderr.ends_with("\nKeyError: 'key'\n"),
        "{}",
        ran.stderr
    );
    let code = "import sys\nsys.stderr.write('half')\nraise ValueError('one\\ntwo')";
    let ran = exec(&running, &["-c", code]).ended_with(1);
    assert!(
        ran.stderr.starts_with("half\nTraceback")
            && ran.stderr.ends_with("\nValueError: one\ntwo\n"),
        "{}",
        ran.stderr
    );
    let ran = exec(&running, &["-c", "print('x' * (2 << 20))"]).ended_with(0);
    assert!(
        ran.stderr
            .contains("more to standard output than is passed on"),
        "{}",
        ran.stderr
    );
    let ran = exec(&running, &["-c", "def f(:"]).ended_with(1);
    assert!(
        ran.stderr.ends_with("SyntaxError: invalid syntax\n"),
        "{}",
        ran.stderr
    );
    let ran = exec(&running, &["-c", "import os; os._exit(3)"]).ended_with(1);
    let said = "error: the interpreter exited with code 3\n  help: ";
    assert!(ran.stderr.starts_with(said), "{}", ran.stderr);
    assert_eq!(sessions(&running), Vec::<Value>::new());
}

#[test]
fn a_failure_in_a_session_that_stays_names_what_it_may_have_changed() {
    let (running, _) = python();
    let begin = "class Box: pass\nbox = Box()\nbox.n = 1";
    exec(&running, &["--session", "s", "-c", begin]).ended_with(0);
    let ran = exec(&running, &["--session", "s", "-c", "box.n = 2\n1 / 0"]).ended_with(1);
    assert!(
        ran.stderr
            .ends_with("warning: may have changed nevertheless: box\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn code_that_takes_too_long_is_ended_where_it_was() {
    let (running, _) = python();
    let code = "import time\nprint('begun')\ntime.sleep(60)";
    let ran = exec(&running, &["--timeout", "0.5", "-c", code]).ended_with(1);
    assert_eq!(ran.stdout, "begun\n");
    for said in [
        "line 3",
        "error: timed out after 500ms\n",
        "--timeout SECONDS",
    ] {
        assert!(
            ran.stderr.contains(said),
            "{said} is missing in {}",
            ran.stderr
        );
    }
}

#[test]
fn in_json_all_that_came_of_it_is_one_object() {
    let (running, _) = python();
    let code = "import sys\nprint('o')\nprint('e', file=sys.stderr)\nprogress(0.5)\n[1]";
    let told = exec(&running, &["--json", "-c", code]).ended_with(0).json();
    assert_eq!(
        (&told["stdout"], &told["stderr"]),
        (&"o\n".into(), &"e\n".into())
    );
    assert_eq!(told["results"]["_"], serde_json::json!([1]));
    assert_eq!(told["success"], true);
    let ran = exec(&running, &["--json", "-c", "1 / 0"]).ended_with(1);
    assert_eq!(ran.json()["error"], "ZeroDivisionError: division by zero");
    let said: Value = serde_json::from_str(&ran.stderr).expect("an error in JSON");
    assert_eq!(said["exit_code"], 1);
}

#[test]
fn an_interrupted_command_ends_the_code_and_only_a_session_of_its_own() {
    let (running, _) = python();
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = endless(&running, &[]);
        kill_process(Pid::from_child(&child), signal).expect("a child can be signalled");
        assert_eq!(
            child.wait().expect("it ends").code(),
            Some(130),
            "{signal:?}"
        );
        assert_eq!(sessions(&running), Vec::<Value>::new());
    }
    exec(&running, &["--session", "s", "-c", "x = 5"]).ended_with(0);
    for signal in [Signal::INT, Signal::KILL] {
        let mut child = endless(&running, &["--session", "s"]);
        kill_process(Pid::from_child(&child), signal).expect("a child can be signalled");
        child.wait().expect("it ends");
        wait_for("the code is interrupted", PATIENCE, || {
            (sessions(&running)[0]["state"] == "idle").then_some(())
        });
        let ran = exec(&running, &["--session", "s", "-c", "x"]).ended_with(0);
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            ("5\n", ""),
            "{signal:?}"
        );
    }
}

#[test]
fn who_cannot_run_code_says_why() {
    let (running, _) = python();
    running.deploy("plain", "def handler(body):\n    return 1\n");
    let ran = running.par(&["exec", "plain", "-c", "1"]).ended_with(4);
    for said in [
        "plain has no execution backend",
        "capabilities: [code-execution]",
    ] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    let ran = running.par(&["exec", "ghost", "-c", "1"]).ended_with(4);
    assert!(
        ran.stderr.contains("no agent is called `ghost`"),
        "{}",
        ran.stderr
    );
    running.par(&["stop", "python"]).ended_with(0);
    let ran = exec(&running, &["-c", "1"]).ended_with(6);
    assert!(ran.stderr.contains("ps python"), "{}", ran.stderr);
}

#[test]
fn an_application_never_gets_code_that_was_meant_for_a_backend() {
    let running = Running::start();
    let python = "async def app(scope, receive, send):\n    if scope['type'] != 'http':\n        return\n    \
        print('asked for', scope['path'])\n    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n    \
        await send({'type': 'http.response.body', 'body': b'{}'})\n";
    let package = PackageBuilder::new("web")
        .main(python)
        .entrypoint(None)
        .manifest("http_server: src.main:app");
    running.write(&package);
    running.par(&["deploy", "web"]).ended_with(0);
    let ran = running.par(&["exec", "web", "-c", "1"]).ended_with(4);
    assert!(
        ran.stderr.contains("no execution backend"),
        "{}",
        ran.stderr
    );
    let logged = running.par(&["logs", "web"]).ended_with(0).stdout;
    assert!(!logged.contains("sessions"), "{logged}");
}
