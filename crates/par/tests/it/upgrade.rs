//! Another binary takes the place of the supervisor; one that cannot changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use par_testkit::wait_for;
use serde_json::{Value, json};

use crate::backend;
use crate::ran::{Ran, par_in};
use crate::raw::Raw;
use crate::scene::{PATIENCE, Scene};
use crate::traffic::speaker;

fn scene() -> Scene {
    let scene = Scene::with(|builder| builder.lasting(30.0));
    for agent in ["left", "right"] {
        scene.serve(&speaker(agent), &json!({}));
    }
    scene
}

fn par(scene: &Scene, words: &[&str]) -> Ran {
    let all = ["--url", scene.system.url()];
    par_in(scene.folder(), all.iter().chain(words), "")
}

/// What an upgrade must not change.
fn lives(scene: &Scene) -> Vec<Value> {
    let life = |agent| {
        let process = scene.process(agent);
        let fields = [
            "pid",
            "agent_pid",
            "port",
            "release",
            "restart_count",
            "state",
        ];
        json!(fields.map(|field| process[field].clone()))
    };
    ["left", "right"].map(life).to_vec()
}

fn script(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    path
}

#[test]
fn a_binary_that_does_not_serve_changes_nothing_and_the_reason_is_told() {
    let scene = scene();
    let before = lives(&scene);
    let pid = scene.system.pid();
    let no_program = script(scene.folder(), "words", "just words\n", 0o755);
    let not_executable = script(scene.folder(), "plain", "#!/bin/sh\nexit 0\n", 0o644);
    // It says that it is there, and goes when it is to serve.
    let fickle = "#!/bin/sh\nprintf h >&0\nhead -c 1 >/dev/null\nexit 4\n";
    let fickle = script(scene.folder(), "fickle", fickle, 0o755);
    let liar = script(
        scene.folder(),
        "liar",
        "#!/bin/sh\nprintf x >&0\nsleep 60\n",
        0o755,
    );
    let missing = scene.folder().join("missing");
    for (binary, reason) in [
        (Path::new("/bin/false"), "it ended"),
        (&no_program, "the new process did not start"),
        (&not_executable, "Permission denied"),
        (&fickle, "it ended"),
        (&liar, "it said something that is not known"),
        (&missing, "is not the path of a file"),
    ] {
        let binary = binary.to_str().expect("plain");
        let ran = par(&scene, &["upgrade", "--binary", binary]);
        assert_ne!(ran.code, 0, "{binary}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{binary}: {ran:?}");
        println!("{}: {}", ran.code, ran.stderr.trim());
        assert_eq!(scene.system.pid(), pid);
        assert_eq!(lives(&scene), before, "{binary}");
        for agent in ["left", "right"] {
            let answer = scene.call(agent, &json!({ "n": 1 }));
            assert_eq!(answer.json()["me"], agent, "{binary}");
        }
    }
    // It still can do everything, and tells of a failure in JSON, too.
    let ran = par(&scene, &["--json", "upgrade", "--binary", "/bin/false"]);
    let told: Value = serde_json::from_str(&ran.stderr).expect("JSON");
    assert_eq!(told["exit_code"], ran.code);
    par(&scene, &["scale", "left", "2"]).ended_with(0);
    scene.wait_for_process("left", "two", |process| {
        let all = process["instances"].as_array().expect("a list");
        all.len() == 2 && all.iter().all(|it| it["state"] == "running")
    });
    par(&scene, &["stop", "right"]).ended_with(0);
}

#[test]
fn one_that_hangs_keeps_nobody_from_working_nor_from_ending_the_supervisor() {
    let mut scene = scene();
    let started = scene.folder().join("started");
    let text = format!(
        "#!/bin/sh\necho $$ > {}\nexec sleep 1000\n",
        started.display()
    );
    let hanging = script(scene.folder(), "hanging", &text, 0o755);
    let asked = {
        let (url, folder) = (scene.system.url().to_owned(), scene.folder().to_owned());
        thread::spawn(move || {
            let hanging = hanging.to_str().expect("plain");
            par_in(&folder, ["--url", &url, "upgrade", "--binary", hanging], "")
        })
    };
    let pid = wait_for("the new process", PATIENCE, || {
        let said = fs::read_to_string(&started).ok()?;
        said.trim().parse::<u32>().ok()
    });
    // What a worker leaves behind is ended; the new process is none of that.
    par(&scene, &["restart", "left"]).ended_with(0);
    par(&scene, &["rm", "right"]).ended_with(0);
    assert_eq!(scene.call("left", &json!({ "n": 1 })).status, 200);
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let begun = Instant::now();
    scene.system.rest();
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    let ran = asked.join().expect("it ends");
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn the_new_process_answers_the_old_one_ends_and_no_agent_notices() {
    let mut scene = scene();
    let before = lives(&scene);
    let old = scene.system.pid();
    let upgraded = par(&scene, &["--json", "upgrade"]).ended_with(0).json();
    let pid = upgraded["pid"].as_u64().expect("a process id");
    let pid = u32::try_from(pid).expect("a process id");
    assert_ne!(pid, old);
    scene.system.handed_over(pid);
    wait_for("the end of the old process", PATIENCE, || {
        scene.system.first_has_ended().then_some(())
    });
    assert_eq!(lives(&scene), before);
    for agent in ["left", "right"] {
        let answer = scene.call(agent, &json!({ "n": 1 }));
        assert_eq!(answer.json()["me"], agent);
    }
    // What happened before is known, and what is asked now is done.
    let events = scene.http().get("/supervisor/events?agent=left&limit=100");
    let events = events.expect("an answer").json();
    let kinds = events["events"].as_array().expect("a list").iter();
    let live = kinds.filter(|event| event["kind"] == "release_live");
    assert_eq!(live.count(), 1, "{events}");
    par(&scene, &["restart", "left"]).ended_with(0);
    assert_ne!(lives(&scene)[0], before[0]);
    assert_eq!(lives(&scene)[1], before[1]);
    let ended = scene.system.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
}

#[test]
fn sleepers_sleep_on_sessions_are_kept_and_streams_come_to_their_end() {
    let mut scene = Scene::with(|builder| builder.lasting(30.0));
    let frozen = json!({ "idle_timeout_seconds": 0.3, "idle_stop_seconds": 600 });
    let stopped = json!({ "idle_timeout_seconds": 0.2, "idle_stop_seconds": 0.2 });
    scene.serve(&speaker("frozen"), &frozen);
    scene.serve(&speaker("stopped"), &stopped);
    scene.serve(&speaker("teller"), &json!({}));
    scene.serve(&backend::package(backend::AGENT), &json!({}));
    backend::run(&scene, "kept", "x = 41");
    let idle = |agent: &'static str, how: &'static str| {
        move |scene: &Scene| scene.wait_for_process(agent, how, |process| process["idle"] == how)
    };
    let (freezes, stops) = (idle("frozen", "frozen"), idle("stopped", "stopped"));
    let before = freezes(&scene);
    stops(&scene);
    let mut stream = Raw::connect(scene.system.url());
    let body = json!({ "count": 20, "every": 0.1 }).to_string();
    let length = format!("content-length: {}", body.len());
    let headers = ["accept: text/event-stream", &length];
    stream.send_head("POST /agents/teller/exports/ticks", &headers);
    stream.send(body.as_bytes()).expect("sent");
    stream.head();
    stream.chunk();
    let upgraded = par(&scene, &["--json", "upgrade"]).ended_with(0).json();
    let pid = upgraded["pid"].as_u64().expect("a process id");
    scene
        .system
        .handed_over(u32::try_from(pid).expect("a process id"));
    assert_eq!(scene.process("stopped")["idle"], "stopped");
    let after = freezes(&scene);
    assert_eq!(after["agent_pid"], before["agent_pid"]);
    assert_eq!(backend::value(&scene, "kept", "x + 1"), 42);
    for agent in ["frozen", "stopped"] {
        let answer = scene.call(agent, &json!({ "n": 1 }));
        assert_eq!(answer.json()["me"], agent, "{}", answer.text());
    }
    assert!(!scene.system.first_has_ended(), "it has a stream to finish");
    let mut events = 1;
    while !stream.chunk().is_empty() {
        events += 1;
    }
    assert_eq!(events, 20);
    drop(stream);
    wait_for("the end of the old process", PATIENCE, || {
        scene.system.first_has_ended().then_some(())
    });
    stops(&scene);
}

#[test]
fn a_process_that_took_over_may_be_killed_and_the_next_one_goes_on() {
    let mut scene = scene();
    let before = lives(&scene);
    let upgraded = par(&scene, &["--json", "upgrade"]).ended_with(0).json();
    let pid = upgraded["pid"].as_u64().expect("a process id");
    scene
        .system
        .handed_over(u32::try_from(pid).expect("a process id"));
    scene.system.crash();
    scene.system.again();
    wait_for("both agents", PATIENCE, || {
        let back = |agent| scene.call(agent, &json!({ "n": 1 })).status == 200;
        ["left", "right"].into_iter().all(back).then_some(())
    });
    assert_eq!(lives(&scene), before);
}
