//! A state that is damaged, incomplete or in use: it is told exactly, nothing gets lost, and what can run runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use par_testkit::{Http, PackageBuilder, System, wait_for};
use serde_json::{Value, json};

use crate::ran::{Ran, par, par_in};
use crate::scene::{PATIENCE, Scene};
use crate::traffic::speaker;

fn lasting(grace: f64) -> Scene {
    Scene::with(|builder| builder.lasting(grace))
}

fn up(state: &Path) -> Ran {
    let state = state.to_str().expect("plain");
    par(["up", "--port", "0", "--state", state])
}

/// The state file and what lies beside it.
fn state_file(state: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(state).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let ours = names.filter(|name| name.as_encoded_bytes().starts_with(b"par.db"));
    let read = |name: OsString| {
        let bytes = fs::read(state.join(&name)).expect("readable");
        (name, bytes)
    };
    ours.map(read).collect()
}

fn put_back(state: &Path, files: &BTreeMap<OsString, Vec<u8>>) {
    for name in state_file(state).keys() {
        fs::remove_file(state.join(name)).expect("removed");
    }
    for (name, bytes) in files {
        fs::write(state.join(name), bytes).expect("written");
    }
}

/// Only the state file, which is what `python` makes of it.
fn put_instead(state: &Path, python: &str) {
    for name in state_file(state).keys() {
        fs::remove_file(state.join(name)).expect("removed");
    }
    let script = format!("import sqlite3\ndb = sqlite3.connect('par.db')\n{python}\ndb.commit()\n");
    let mut command = Command::new("python3");
    let ran = command.args(["-c", &script]).current_dir(state).output();
    let ran = ran.expect("there is a Python");
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
fn workers_serve_on_while_their_state_file_cannot_be_used_and_are_found_when_it_can() {
    let mut scene = lasting(60.0);
    scene.serve(&speaker("speaker"), &json!({}));
    let before = scene.process("speaker");
    let port = before["port"].as_u64().expect("a port");
    let direct = Http::new(&format!("http://127.0.0.1:{port}"));
    scene.system.crash();
    let state = scene.system.state().to_owned();
    let good = state_file(&state);
    type Spoil = Box<dyn Fn(&Path)>;
    let corrupt: Spoil = Box::new(|state| {
        let file = state.join("par.db");
        let size = fs::metadata(&file).expect("there").len() as usize;
        fs::remove_file(state.join("par.db-wal")).unwrap_or_default();
        fs::write(
            &file,
            [b"SQLite format 3\0".to_vec(), vec![0x5a; size]].concat(),
        )
        .expect("written");
    });
    let foreign: Spoil =
        Box::new(|state| put_instead(state, "db.execute('create table diary (day text)')"));
    let newer: Spoil = Box::new(|state| {
        let bump = "db.execute('pragma user_version = 999')";
        let script = format!(
            "import sqlite3\ndb = sqlite3.connect('par.db')\n{bump}\ndb.commit()\ndb.close()\n"
        );
        let mut command = Command::new("python3");
        let ran = command.args(["-c", &script]).current_dir(state).output();
        assert!(ran.expect("there is a Python").status.success());
    });
    for (spoil, reason) in [
        (corrupt, "last good copy"),
        (foreign, "another program"),
        (newer, "newer"),
    ] {
        put_back(&state, &good);
        spoil(&state);
        let spoilt = fs::read(state.join("par.db")).expect("readable");
        let ran = up(&state).ended_with(1);
        println!("{}", ran.stderr.trim());
        assert!(ran.stderr.contains(reason), "{ran:?}");
        assert!(ran.stderr.contains("par.db"), "{ran:?}");
        assert_eq!(fs::read(state.join("par.db")).expect("readable"), spoilt);
        let answer = direct
            .post("/invoke", &json!({ "n": 1 }))
            .expect("it serves");
        assert_eq!(answer.json()["me"], "speaker");
    }
    put_back(&state, &good);
    scene.system.again();
    let after = scene.process("speaker");
    for field in ["pid", "agent_pid", "port", "release"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(scene.call("speaker", &json!({ "n": 1 })).status, 200);
}

/// An agent with a package that no other has.
fn own(name: &str) -> PackageBuilder {
    let python =
        format!("# {name}\nimport os\ndef handler(body):\n    return os.environ.get('KEY')\n");
    PackageBuilder::new(name).main(&python)
}

#[test]
fn an_agent_that_lost_its_package_or_its_secrets_says_so_and_all_others_run() {
    let mut scene = lasting(0.0);
    fs::write(scene.folder().join("keys"), "KEY=value\n").expect("written");
    let agents = ["whole", "bare", "robbed", "bared"];
    let deploy = |scene: &Scene, agent: &str| {
        own(agent).folder(scene.folder()).expect("written");
        let words = [
            "--url",
            scene.system.url(),
            "deploy",
            agent,
            "--secret-file",
            "keys",
        ];
        par_in(scene.folder(), words, "").ended_with(0);
    };
    for agent in agents {
        deploy(&scene, agent);
    }
    let digest = scene.process("bare")["package_digest"].clone();
    let digest = digest.as_str().expect("a digest").to_owned();
    scene.system.rest();
    let state = scene.system.state().to_owned();
    fs::remove_dir_all(state.join("packages").join(digest)).expect("removed");
    let secrets = |agent: &str| {
        let all = files_below(&state.join("secrets"));
        let own: Vec<PathBuf> = all
            .into_iter()
            .filter(|it| it.to_string_lossy().contains(agent))
            .collect();
        assert_eq!(own.len(), 1, "{own:?}");
        own[0].clone()
    };
    fs::remove_file(secrets("robbed")).expect("removed");
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(secrets("bared"), open).expect("set");
    scene.system.again();
    scene.wait_until("whole", "running");
    assert_eq!(scene.call("whole", &json!({})).json(), "value");
    for (agent, reason) in [
        ("bare", "its package is gone from"),
        (
            "robbed",
            "are gone: deploy the agent again with its secrets",
        ),
        ("bared", "can be read by others (mode 0644)"),
    ] {
        let process = scene.wait_until(agent, "failed");
        let error = process["error"].as_str().expect("a reason");
        println!("{agent}: {error}");
        assert!(error.contains(reason), "{process}");
        assert_eq!(scene.call(agent, &json!({})).status, 503);
        assert_eq!(
            process["restart_count"], 0,
            "there is nothing to be tried again"
        );
    }
    // The way back that was told.
    let closed = fs::Permissions::from_mode(0o600);
    fs::set_permissions(secrets("bared"), closed).expect("set");
    par(["--url", scene.system.url(), "start", "bared"]).ended_with(0);
    for agent in ["bare", "robbed"] {
        deploy(&scene, agent);
    }
    for agent in agents {
        assert_eq!(scene.call(agent, &json!({})).json(), "value", "{agent}");
    }
    assert_eq!(scene.process("whole")["restart_count"], 0);
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn an_agent_whose_port_was_taken_meanwhile_gets_another_and_all_others_their_own() {
    let mut scene = lasting(0.0);
    let agents = ["first", "second", "third"];
    for agent in agents {
        scene.serve(&speaker(agent), &json!({}));
    }
    let ports = |scene: &Scene| agents.map(|agent| scene.process(agent)["port"].as_u64());
    let before = ports(&scene);
    scene.system.rest();
    let taken = before[1].and_then(|port| u16::try_from(port).ok());
    let stranger = TcpListener::bind(("127.0.0.1", taken.expect("a port"))).expect("free");
    scene.system.again();
    for agent in agents {
        scene.wait_until(agent, "running");
        let answer = scene.call(agent, &json!({ "n": 1 }));
        assert_eq!(answer.json()["me"], agent);
    }
    let after = ports(&scene);
    assert_eq!((after[0], after[2]), (before[0], before[2]));
    assert_ne!(after[1], before[1]);
    drop(stranger);
}

#[test]
fn a_second_supervisor_on_a_state_folder_is_refused_and_disturbs_nobody() {
    let scene = lasting(30.0);
    scene.serve(&speaker("speaker"), &json!({}));
    let before = scene.process("speaker");
    let ran = up(scene.system.state()).ended_with(1);
    assert!(
        ran.stderr
            .contains("another supervisor uses the state folder"),
        "{ran:?}"
    );
    let answer = scene.call("speaker", &json!({ "n": 1 }));
    assert_eq!(answer.json()["me"], "speaker");
    let after = scene.process("speaker");
    for field in ["pid", "agent_pid", "port", "restart_count"] {
        assert_eq!(after[field], before[field], "{field}");
    }
}

/// A supervisor whose state folder is a file system of its own, as large as this; none where we may make none.
fn cramped(folder: &Path, megabytes: u32) -> Option<System> {
    let mount = |then: &str| {
        let state = folder.join("state");
        fs::create_dir_all(&state).expect("made");
        format!(
            "exec unshare -m sh -c 'mount -t tmpfs -o size={megabytes}m none {} && {then}' par \"$@\"\n",
            state.display()
        )
    };
    let tried = Command::new("sh").args(["-c", &mount("true")]).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return None;
    }
    let binary = folder.join("par");
    let then = format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_par"));
    fs::write(&binary, format!("#!/bin/sh\n{}", mount(&then))).expect("written");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("set");
    Some(System::builder(binary).state(&folder.join("state")).start())
}

#[test]
fn on_a_full_disk_a_deploy_is_refused_with_the_reason_and_what_runs_runs_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(system) = cramped(folder.path(), 16) else {
        println!("not run: file systems cannot be mounted here");
        return;
    };
    let deploy = |agent: &str| {
        own(agent).folder(folder.path()).expect("written");
        par_in(folder.path(), ["--url", system.url(), "deploy", agent], "")
    };
    deploy("early").ended_with(0);
    // What is mounted there is seen by the supervisor alone.
    let inside = PathBuf::from(format!("/proc/{}/root", system.pid()));
    let state = folder.path().join("state");
    let filler = inside
        .join(state.strip_prefix("/").expect("absolute"))
        .join("filler");
    let mut file = fs::File::create(&filler).expect("made");
    while file.write_all(&[7; 4096]).is_ok() {}
    let ran = deploy("late");
    println!("{}", ran.stderr.trim());
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("No space left on device"), "{ran:?}");
    let call = |agent: &str| {
        let path = format!("/agents/{agent}/invoke");
        system
            .http()
            .post(&path, &json!({}))
            .expect("an answer")
            .status
    };
    assert_eq!(call("early"), 200);
    assert_eq!(call("late"), 404);
    let status = || {
        system
            .http()
            .get("/supervisor/status")
            .expect("an answer")
            .json()
    };
    assert_eq!(status()["processes"]["par-early"]["state"], "running");
    // What it wants now cannot be kept, and that is said for as long as it is so.
    par(["--url", system.url(), "stop", "early"]);
    drop(file);
    fs::remove_file(filler).expect("removed");
    wait_for("all is kept again", PATIENCE, || {
        (status()["unsaved"] == Value::Null).then_some(())
    });
    par(["--url", system.url(), "start", "early"]).ended_with(0);
    assert_eq!(call("early"), 200);
    deploy("late").ended_with(0);
    assert_eq!(call("late"), 200);
}
