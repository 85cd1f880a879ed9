//! Code that runs in sessions: what is kept, what ends a run, and that nobody else notices.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use par_testkit::wait_for;
use serde_json::{Value, json};

use crate::backend::{
    AGENT, backend, error, execute, package, run, session, value, wait_until_idle,
};
use crate::scene::{PATIENCE, Scene};

#[test]
fn a_session_keeps_its_variables_and_another_has_none_of_them() {
    let scene = backend();
    assert_eq!(value(&scene, "a", "x = 20\ny = [1]\nx + 1"), 21);
    assert_eq!(value(&scene, "a", "x * 2"), 40);
    assert!(error(&scene, "b", "x").contains("NameError"));
    let ran = run(
        &scene,
        "a",
        "import sys\nprint('out')\nprint('err', file=sys.stderr)\nb'\\x00'",
    );
    assert_eq!(
        (&ran["stdout"], &ran["stderr"]),
        (&json!("out\n"), &json!("err\n"))
    );
    assert_eq!(
        ran["results"],
        json!({ "x": 20, "y": [1], "_": { "base64": "AA==" } })
    );
    let metrics = &ran["metrics"];
    assert!(
        metrics["memory_used_bytes"].as_u64() > Some(1 << 20),
        "{metrics}"
    );
    assert!(
        metrics["execution_time_ms"].as_f64() > Some(0.0),
        "{metrics}"
    );
}

#[test]
fn a_failed_run_leaves_the_variables_as_they_were() {
    let scene = backend();
    run(&scene, "a", "x = 1\nnumbers = [1, 2]");
    let why = error(
        &scene,
        "a",
        "x = 2\nnumbers.append(3)\nnew = 1\nnumbers[99]",
    );
    assert!(why.starts_with("IndexError"), "{why}");
    assert_eq!(
        value(&scene, "a", "[x, numbers, 'new' in dir()]"),
        json!([1, [1, 2], false])
    );
}

#[test]
fn context_and_files_go_in() {
    let scene = backend();
    let request = json!({
        "code": "[name, open(files[0], 'rb').read()]",
        "context": { "name": { "deep": [1, null, 0.5] } },
        "files": ["aGVsbG8="],
    });
    let ran = execute(&scene, "a", &request).json();
    let expected = json!([{ "deep": [1, null, 0.5] }, { "base64": "aGVsbG8=" }]);
    assert_eq!(ran["results"]["_"], expected, "{ran}");
}

#[test]
fn whatever_ends_a_run_is_named_and_the_session_goes_on() {
    let scene = backend();
    run(&scene, "a", "kept = {'n': 1}\nlost = object()");
    for (code, reason) in [
        ("def f(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("x = bytearray(1 << 40)", "MemoryError"),
        (
            "import os; os._exit(7)",
            "the interpreter exited with code 7; kept: kept; lost: ",
        ),
        (
            "import os; os.kill(os.getpid(), 9)",
            "the interpreter ended by SIGKILL; kept: kept; lost: ",
        ),
        (
            "import ctypes; ctypes.string_at(0)",
            "the interpreter ended by SIGSEGV; kept: kept; lost: ",
        ),
        (
            "import os; os.close(1000); os.closerange(3, 2000)",
            "the interpreter ",
        ),
    ] {
        let why = error(&scene, "a", code);
        assert!(why.starts_with(reason), "{code}: {why}");
        assert_eq!(
            value(&scene, "a", "kept"),
            json!({ "n": 1 }),
            "after {code}"
        );
    }
    assert!(error(&scene, "a", "lost").contains("NameError"));
}

#[test]
fn time_is_up_when_it_is_up_whether_the_code_agrees_or_not() {
    let scene = backend();
    run(&scene, "a", "kept = 1");
    let stubborn = "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass";
    for (code, end) in [
        ("while True: pass", ""),
        (
            stubborn,
            ", and had to be killed; kept: kept; lost: nothing",
        ),
    ] {
        let request = json!({ "code": code, "timeout_seconds": 0.3 });
        let began = Instant::now();
        let ran = execute(&scene, "a", &request).json();
        assert_eq!(ran["failure"], "timed_out");
        assert_eq!(ran["error"], format!("timed out after 300ms{end}"));
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(value(&scene, "a", "kept"), 1);
    }
}

#[test]
fn output_is_cut_at_its_limit_and_says_so() {
    let scene = backend();
    let ran = run(
        &scene,
        "a",
        "import sys\nfor _ in range(3000): print('é' * 512)\nsys.stderr.write('x')\n1",
    );
    assert_eq!(
        (&ran["success"], &ran["stdout_truncated"]),
        (&json!(true), &json!(true))
    );
    // The last character that fits is the last one.
    let length = ran["stdout"].as_str().map(str::len);
    assert!(matches!(length, Some(1_048_575 | 1_048_576)), "{length:?}");
    assert_eq!(
        (&ran["stderr"], &ran["stderr_truncated"]),
        (&json!("x"), &json!(false))
    );
}

#[test]
fn code_that_meddles_with_its_surroundings_meddles_with_its_own() {
    let scene = backend();
    let untouched = || assert_eq!(value(&scene, "other", "len([print]) + 1"), 2);
    for code in [
        "import sys; sys.stdout.close(); sys.stderr.close()",
        "import os; os.close(1); os.close(2)",
        "import builtins; builtins.print = builtins.len = builtins.open = None",
        "import os, sys\nif os.fork() == 0: print('child')\nelse: os.wait()",
        "import sys; sys.modules.clear()",
        "globals().clear()",
        "class Evil:\n    def __repr__(self): raise RuntimeError\nevil = Evil()",
        "loop = []\nloop.append(loop)",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "import threading; threading.Thread(target=lambda: print('late'), daemon=True).start()",
    ] {
        let ran = run(&scene, "meddler", code);
        assert!(ran["success"].is_boolean(), "{code}: {ran}");
        untouched();
    }
}

#[test]
fn a_stream_tells_of_what_happens_when_it_happens() {
    let scene = backend();
    value(&scene, "a", "1");
    let code = "import os, time\nprint('first', flush=True)\nprogress(0.5, 'half')\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('last')\n7";
    let folder = value(&scene, "a", "import os\nos.getcwd()");
    let go = std::path::Path::new(folder.as_str().expect("a path")).join("go");
    let mut stream = ask_for_stream(&scene, code);
    let seen = read_until(&mut stream, "event: progress");
    // The code cannot end before this.
    fs::write(go, "").expect("written");
    let first = "event: stdout\ndata: {\"text\":\"first"; // its line feed may come by itself
    assert!(seen.contains(first), "{seen}");
    let seen = read_until(&mut stream, "event: result");
    assert!(
        seen.contains("{\"message\":\"half\",\"value\":0.5}"),
        "{seen}"
    );
    assert!(seen.contains("{\"text\":\"last"), "{seen}");
    let seen = read_until(&mut stream, "\n\n");
    assert!(seen.contains("\"_\":7"), "{seen}");
}

#[test]
fn a_caller_who_leaves_ends_the_run_and_not_the_session() {
    let scene = backend();
    value(&scene, "a", "x = 5\n1");
    let code = "import time\nprint('begun')\nwhile True: time.sleep(0.01)";
    let mut stream = ask_for_stream(&scene, code);
    read_until(&mut stream, "begun");
    drop(stream);
    wait_until_idle(&scene, "a");
    assert_eq!(value(&scene, "a", "x"), 5);
}

/// The beginning of an event stream of session `a`.
fn ask_for_stream(scene: &Scene, code: &str) -> TcpStream {
    let address = scene.system.url().strip_prefix("http://").expect("a URL");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let body = json!({ "code": code }).to_string();
    let request = format!(
        "POST /agents/{AGENT}/sessions/a/execute HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    stream
}

fn read_until(stream: &mut TcpStream, words: &str) -> String {
    let mut seen = vec![];
    let mut byte = [0];
    loop {
        let text = String::from_utf8_lossy(&seen);
        if text.contains(words) {
            return text.into_owned();
        }
        assert_eq!(
            stream.read(&mut byte).expect("more comes"),
            1,
            "the stream ended: {text}"
        );
        seen.extend_from_slice(&byte);
    }
}

#[test]
fn requests_that_make_no_sense_are_refused_by_name() {
    let scene = backend();
    for (request, words) in [
        (json!({}), "missing field `code`"),
        (json!(["1 + 1", {}, [], "SMALL", 0]), "an object is needed"),
        (json!({ "code": 1 }), "expected a string"),
        (
            json!({ "code": "", "colour": "red" }),
            "unknown field `colour`",
        ),
        (
            json!({ "code": "", "timeout_seconds": -1 }),
            "timeout_seconds is -1",
        ),
        (
            json!({ "code": "", "timeout_seconds": 1e9 }),
            "at most 86400",
        ),
        (
            json!({ "code": "", "resource_tier": "HUGE" }),
            "unknown variant `HUGE`",
        ),
        (
            json!({ "code": "", "files": ["%"] }),
            "files[0] is not base64",
        ),
    ] {
        let answer = execute(&scene, "a", &request);
        assert_eq!(answer.status, 400, "{request}");
        assert!(
            answer.text().contains(words),
            "{request}: {}",
            answer.text()
        );
    }
    let long = "x".repeat(300);
    for id in ["..", "a%2Fb", "a%00b", "a%20b", &long] {
        let answer = execute(&scene, id, &json!({ "code": "1" }));
        assert_eq!(answer.status, 400, "{id}");
        assert!(answer.text().contains("session id"), "{}", answer.text());
    }
    let ran = execute(
        &scene,
        "a",
        &json!({ "code": "1", "context": { "not a name": 1 } }),
    )
    .json();
    assert_eq!(ran["success"], false, "{ran}");
    assert!(
        ran["error"]
            .as_str()
            .is_some_and(|why| why.contains("not a name")),
        "{ran}"
    );
}

#[test]
fn a_session_is_begun_seen_and_ended() {
    let scene = backend();
    assert_eq!(session(&scene, "a"), Value::Null);
    let large = json!({ "code": "x = 1", "resource_tier": "MEDIUM" });
    assert_eq!(execute(&scene, "a", &large).json()["success"], true);
    let seen = session(&scene, "a");
    assert_eq!(
        (&seen["resource_tier"], &seen["variables"]),
        (&json!("MEDIUM"), &json!({ "x": 1 }))
    );
    let larger = execute(
        &scene,
        "a",
        &json!({ "code": "1", "resource_tier": "LARGE" }),
    );
    assert_eq!(larger.status, 409, "{}", larger.text());
    let path = format!("/agents/{AGENT}/sessions");
    let list = || {
        scene
            .http()
            .get(&path)
            .expect("the supervisor answers")
            .json()
    };
    assert_eq!(list()["count"], 1);
    let folder = value(&scene, "a", "import os\nos.getcwd()");
    let folder = folder.as_str().expect("a path").to_owned();
    assert!(fs::exists(&folder).expect("it can be asked"));
    let one = format!("{path}/a");
    assert_eq!(scene.http().delete(&one).expect("answered").status, 200);
    assert_eq!(scene.http().delete(&one).expect("answered").status, 404);
    assert_eq!(list()["count"], 0);
    assert!(!fs::exists(&folder).expect("it can be asked"));
}

#[test]
fn what_a_session_has_started_ends_with_it() {
    let scene = backend();
    let code = "import subprocess\nchild = subprocess.Popen(['sleep', '1000'], start_new_session=True)\nchild.pid";
    let pid = value(&scene, "a", code);
    let orphan = "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: os.execvp('sleep', ['sleep', '1000'])\n    os._exit(0)\nos.wait()\n";
    run(&scene, "a", orphan);
    let pid = scene.seen_from_outside(AGENT, pid.as_u64().expect("a process id"));
    let lives = || fs::exists(format!("/proc/{pid}")).expect("it can be asked");
    assert!(lives());
    let path = format!("/agents/{AGENT}/sessions/a");
    assert_eq!(scene.http().delete(&path).expect("answered").status, 200);
    wait_for("the child is gone", PATIENCE, || (!lives()).then_some(()));
    // The end of the scene looks for the orphan too.
}

#[test]
fn each_agent_and_each_session_has_a_tmp_of_its_own() {
    let scene = backend();
    scene.serve(&package("other"), &json!({}));
    let mine = format!("/tmp/par-test-{}", std::process::id());
    run(&scene, "a", &format!("open('{mine}', 'w').close()"));
    assert!(
        !fs::exists(&mine).expect("it can be asked"),
        "the machine's /tmp is not touched"
    );
    assert_eq!(
        value(&scene, "b", "import os\nos.path.exists('{mine}')"),
        false
    );
}

#[test]
fn two_hundred_sessions_do_not_notice_three_that_misbehave() {
    let scene = backend();
    let count = 200;
    let scene = &scene;
    thread::scope(|scope| {
        for worker in 0..8 {
            scope.spawn(move || {
                for n in (worker..count).step_by(8) {
                    assert_eq!(value(scene, &format!("s{n}"), &format!("n = {n}\nn")), n);
                }
            });
        }
    });
    thread::scope(|scope| {
        scope.spawn(|| error(scene, "s0", "import os; os.kill(os.getpid(), 9)"));
        let endless = json!({ "code": "while True: pass", "timeout_seconds": 3 });
        scope.spawn(move || execute(scene, "s1", &endless));
        scope.spawn(|| run(scene, "s2", "for _ in range(30000): print('x' * 1000)"));
        for worker in 0..4 {
            scope.spawn(move || {
                for n in (3 + worker..count).step_by(4) {
                    assert_eq!(value(scene, &format!("s{n}"), "n * 2"), n * 2);
                }
            });
        }
    });
    for n in 0..3 {
        assert_eq!(value(scene, &format!("s{n}"), "n"), n, "the three are back");
    }
    let path = format!("/agents/{AGENT}/sessions");
    let listed = scene.http().get(&path).expect("answered").json();
    assert_eq!(listed["count"], count);
}

#[test]
fn an_agent_without_the_backend_has_no_sessions() {
    let scene = Scene::start();
    scene.agent(AGENT, "def handler(body): return body");
    assert_eq!(execute(&scene, "a", &json!({ "code": "1" })).status, 404);
}

#[test]
fn a_stop_waits_for_the_run_that_is_under_way() {
    let scene = backend();
    value(&scene, "a", "1");
    let scene = &scene;
    thread::scope(|scope| {
        let running = scope.spawn(|| value(scene, "a", "import time\ntime.sleep(1)\n5"));
        wait_for("it runs", PATIENCE, || {
            (session(scene, "a")["state"] == "running").then_some(())
        });
        let stopped = scene
            .http()
            .post(&format!("/supervisor/stop/par-{AGENT}"), &json!({}));
        assert_eq!(stopped.expect("answered").status, 200);
        assert_eq!(running.join().expect("it ran"), 5);
    });
}

#[test]
fn an_interpreter_that_breaks_off_its_channel_is_ended_and_named() {
    let scene = backend();
    let code = "import os, time\nos.closerange(3, 65536)\nwhile True: time.sleep(1)";
    let why = error(&scene, "a", code);
    assert!(
        why.starts_with("the interpreter broke off its channel"),
        "{why}"
    );
    assert_eq!(value(&scene, "a", "1 + 1"), 2);
    let unasked = "import os\nframe = (4 << 20).to_bytes(4, 'big') + bytes(4) + b'\\x0b' + bytes(4 << 20)\nfor _ in range(99): os.write(1000, frame)\nimport time\nwhile True: time.sleep(1)";
    let why = error(&scene, "a", unasked);
    assert!(why.starts_with("the interpreter "), "{why}");
    assert_eq!(value(&scene, "a", "1 + 1"), 2);
}

#[test]
fn what_is_lost_with_an_interpreter_is_said_with_nothing_left_out() {
    let scene = backend();
    run(&scene, "a", "import math\n_private = 5\nx = 1");
    let why = error(&scene, "a", "import os\nos._exit(3)");
    assert_eq!(
        why,
        "the interpreter exited with code 3; kept: x; lost: math, _private"
    );
}

#[test]
fn very_many_variables_hold_up_nobody_and_take_a_bounded_place() {
    let scene = backend();
    run(
        &scene,
        "many",
        "for n in range(60_000): globals()[f'v{n}'] = ()\nNone",
    );
    let scene = &scene;
    thread::scope(|scope| {
        let killed = scope.spawn(|| error(scene, "many", "import os; os._exit(3)"));
        assert_eq!(value(scene, "other", "1 + 1"), 2);
        assert!(killed.join().expect("told").contains("and 10989 more"));
    });
    let began = Instant::now();
    assert_eq!(value(scene, "many", "1 + 1"), 2);
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
}

#[test]
fn memory_that_processes_share_counts_once() {
    let scene = backend();
    let code = "import os, time\nbig = bytearray(b'x') * (700 << 20)\nchildren = []\nfor _ in range(3):\n    pid = os.fork()\n    if pid == 0:\n        time.sleep(60)\n        os._exit(0)\n    children.append(pid)\ntime.sleep(0.5)\nfor pid in children:\n    os.kill(pid, 9)\n    os.waitpid(pid, 0)\ndel big\nlen(children)";
    assert_eq!(value(&scene, "a", code), 3);
}

#[test]
fn an_ended_session_has_no_say_in_its_successor_and_its_end_waits_for_nobody() {
    let scene = backend();
    let stubborn = "import time\nopen('mine.txt', 'w').close()\nprint('begun')\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass";
    let mut stream = ask_for_stream(&scene, stubborn);
    read_until(&mut stream, "begun");
    let address = scene.system.url().strip_prefix("http://").expect("a URL");
    let mut leaver = TcpStream::connect(address).expect("it listens");
    let request = format!("DELETE /agents/{AGENT}/sessions/a HTTP/1.1\r\nhost: localhost\r\n\r\n");
    leaver.write_all(request.as_bytes()).expect("it reads");
    wait_for("the session is not found any more", PATIENCE, || {
        session(&scene, "a").is_null().then_some(())
    });
    drop(leaver);
    let scene = &scene;
    thread::scope(|scope| {
        let successor = scope.spawn(|| value(scene, "a", "import time\ntime.sleep(4)\n7"));
        read_until(&mut stream, "event: error");
        assert_eq!(
            session(scene, "a")["state"],
            "running",
            "the successor still runs"
        );
        assert_eq!(successor.join().expect("it ran"), 7);
    });
    let folder = value(scene, "a", "import os\nos.getcwd()");
    let folders = std::path::Path::new(folder.as_str().expect("a path")).parent();
    let folders = folders.expect("it lies among others").to_owned();
    wait_for("nothing is left of the first", PATIENCE, || {
        let mut all = fs::read_dir(&folders).expect("it is there");
        let left = all.any(|entry| {
            let file = entry.expect("an entry").path().join("mine.txt");
            fs::exists(file).expect("it can be asked")
        });
        (!left).then_some(())
    });
}

#[test]
fn a_run_that_waits_longer_than_its_caller_does_not_begin() {
    let scene = backend();
    value(&scene, "a", "1");
    let mut stream = ask_for_stream(&scene, "import time\nprint('begun')\ntime.sleep(60)");
    read_until(&mut stream, "begun");
    let path = format!("/agents/{AGENT}/sessions/a/execute");
    let headers = [("x-request-timeout", "0.3")];
    let answer = scene
        .http()
        .request("POST", &path, &headers, br#"{"code": "1"}"#);
    let ran = answer.expect("answered").json();
    assert_eq!(
        (&ran["success"], &ran["failure"]),
        (&json!(false), &json!("timed_out")),
        "{ran}"
    );
    assert!(
        ran["error"]
            .as_str()
            .is_some_and(|why| why.contains("its turn")),
        "{ran}"
    );
}

#[test]
fn silent_connections_to_one_door_close_no_other() {
    let scene = backend();
    let port = scene.process(AGENT)["grpc_port"]
        .as_u64()
        .expect("it has one");
    let port = u16::try_from(port).expect("a port");
    let connect = |_| TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let _silent: Vec<TcpStream> = (0..600).map(connect).collect();
    assert_eq!(value(&scene, "a", "1 + 1"), 2);
}

#[test]
fn half_a_greeting_and_no_more_holds_nobody_up() {
    let scene = backend();
    let port = scene.process(AGENT)["grpc_port"]
        .as_u64()
        .expect("it has one");
    let port = u16::try_from(port).expect("a port");
    let mut left = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    left.write_all(b"PRI").expect("it takes it");
    left.shutdown(Shutdown::Write).expect("it is open");
    left.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let closed = match left.read(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset, // what it sent was not read
    };
    assert!(closed);
    assert_eq!(value(&scene, "a", "1 + 1"), 2);
}
