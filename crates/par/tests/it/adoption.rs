//! A supervisor that dies takes nobody along: workers go on, and the next one finds them as they are.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use par_testkit::{Http, control_groups, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::backend;
use crate::ran::par_in;
use crate::raw::Raw;
use crate::scene::{PATIENCE, Scene};
use crate::traffic::speaker;

/// What is promised is a second; this machine may be busy with other tests.
const ALL_BACK: Duration = Duration::from_secs(10);

fn lasting(grace: f64) -> Scene {
    Scene::with(|builder| builder.lasting(grace))
}

/// What has to be the same after another supervisor has come, of every replica of every agent.
fn lives(scene: &Scene) -> BTreeMap<String, Value> {
    let status = scene.status();
    let processes = status["processes"].as_object().expect("agents");
    let lives = processes.iter().map(|(name, process)| {
        let instances = process["instances"].as_array().expect("a list");
        let lives = instances.iter().map(|it| {
            let fields = [
                "slot",
                "release",
                "replica",
                "port",
                "grpc_port",
                "pid",
                "agent_pid",
                "restart_count",
            ];
            fields.map(|field| it[field].clone()).to_vec()
        });
        (name.clone(), json!(lives.collect::<Vec<_>>()))
    });
    lives.collect()
}

fn own_port(scene: &Scene, agent: &str) -> Http {
    let port = scene.process(agent)["port"].as_u64().expect("a port");
    Http::new(&format!("http://127.0.0.1:{port}"))
}

fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process has an id");
    kill_process(pid, signal).expect("it can be signalled");
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Waits until all agents can be called through the supervisor.
#[track_caller]
fn all_back(scene: &Scene, agents: &[&str]) {
    wait_for("all routes are back", PATIENCE, || {
        let back = |agent: &&str| {
            let answer = scene.call(agent, &json!({ "n": 7 }));
            answer.status == 200 && answer.json()["me"] == **agent
        };
        agents.iter().all(back).then_some(())
    });
}

#[test]
fn workers_of_a_dead_supervisor_serve_on_and_the_next_one_goes_on_with_them() {
    let mut scene = lasting(60.0);
    scene.serve(&speaker("pair"), &json!({ "replicas": 2 }));
    scene.serve(&speaker("slow"), &json!({}));
    scene.serve(&speaker("teller"), &json!({}));
    scene.serve(&backend::package(backend::AGENT), &json!({}));
    scene.wait_for_process("pair", "two", |process| {
        let all = process["instances"].as_array().expect("a list");
        all.len() == 2 && all.iter().all(|it| it["state"] == "running")
    });
    kill(scene.pid("teller", "agent_pid"));
    scene.wait_for_process("teller", "back", |process| {
        process["state"] == "running" && process["restart_count"] == 1
    });
    backend::run(&scene, "kept", "x = 41");
    let before = lives(&scene);
    let (pair, slow) = (own_port(&scene, "pair"), own_port(&scene, "slow"));
    let call = thread::spawn(move || slow.post("/invoke", &json!({ "n": 1, "rest": 2.5 })));
    scene.wait_for_log("slow", "resting");
    let teller = scene.process("teller")["port"].as_u64().expect("a port");
    let mut stream = Raw::connect(&format!("http://127.0.0.1:{teller}"));
    let body = json!({ "count": 40, "every": 0.1 }).to_string();
    let length = format!("content-length: {}", body.len());
    let headers = ["accept: text/event-stream", &length];
    stream.send_head("POST /exports/ticks", &headers);
    stream.send(body.as_bytes()).expect("sent");
    stream.head();
    stream.chunk();

    scene.system.crash();
    let answer = pair
        .post("/invoke", &json!({ "n": 3, "rest": 0.01 }))
        .expect("an answer");
    assert_eq!(answer.json()["me"], "pair");
    assert_eq!(pair.get("/health").expect("an answer").status, 200);
    let crashed = Instant::now();
    scene.system.again();
    all_back(&scene, &["pair", "slow", "teller"]);
    let took = crashed.elapsed();
    println!("from the start of the next supervisor until all routes are back: {took:?}");
    assert!(took < ALL_BACK, "{took:?}");
    assert_eq!(lives(&scene), before);
    assert_eq!(backend::value(&scene, "kept", "x + 1"), 42);

    let answer = call.join().expect("it ends").expect("an answer");
    assert_eq!((answer.status, &answer.json()["n"]), (200, &json!(1)));
    let mut events = 1;
    while !stream.chunk().is_empty() {
        events += 1;
    }
    assert_eq!(events, 40);
    // What they wrote meanwhile has not got lost, and what they are told is heard.
    scene.wait_for_log("pair", "resting");
    scene
        .http()
        .post("/supervisor/stop/slow", &json!({}))
        .expect("an answer");
    scene.wait_until("slow", "stopped");
    let ended = scene.system.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
}

#[test]
fn a_worker_that_dies_while_there_is_no_supervisor_is_started_anew_and_leaves_nothing() {
    let mut scene = lasting(60.0);
    for agent in ["mourned", "survivor"] {
        scene.serve(&speaker(agent), &json!({}));
    }
    let before = lives(&scene);
    let (worker, agent) = (
        scene.pid("mourned", "pid"),
        scene.pid("mourned", "agent_pid"),
    );
    let port = scene.process("mourned")["port"].clone();
    scene.system.crash();
    kill(worker);
    scene.system.again();
    all_back(&scene, &["mourned", "survivor"]);
    assert!(!is_alive(agent), "its process went with it");
    let after = lives(&scene);
    assert_eq!(after["par-survivor"], before["par-survivor"]);
    assert_ne!(after["par-mourned"], before["par-mourned"]);
    assert_eq!(scene.process("mourned")["port"], port, "its port is free");
}

#[test]
fn an_agent_that_dies_while_there_is_no_supervisor_is_started_anew() {
    let mut scene = lasting(60.0);
    scene.serve(&speaker("mourned"), &json!({}));
    let (worker, agent) = (
        scene.pid("mourned", "pid"),
        scene.pid("mourned", "agent_pid"),
    );
    scene.system.crash();
    kill(agent);
    wait_for("its worker ends", PATIENCE, || {
        (!is_alive(worker)).then_some(())
    });
    scene.system.again();
    all_back(&scene, &["mourned"]);
}

#[test]
fn a_worker_that_does_not_answer_the_next_supervisor_is_replaced_and_the_others_are_adopted() {
    let mut scene = lasting(60.0);
    for agent in ["mute", "survivor"] {
        scene.serve(&speaker(agent), &json!({}));
    }
    let before = lives(&scene);
    let (worker, agent) = (scene.pid("mute", "pid"), scene.pid("mute", "agent_pid"));
    scene.system.crash();
    signal(worker, Signal::STOP);
    let crashed = Instant::now();
    scene.system.again();
    all_back(&scene, &["mute", "survivor"]);
    let took = crashed.elapsed();
    println!("with one that does not answer, all routes are back after {took:?}");
    assert!(took < ALL_BACK, "{took:?}");
    assert!(
        !is_alive(worker) && !is_alive(agent),
        "nothing of it is left"
    );
    let after = lives(&scene);
    assert_eq!(after["par-survivor"], before["par-survivor"]);
    assert_ne!(after["par-mute"], before["par-mute"]);
}

#[test]
fn what_nobody_adopts_within_the_grace_ends_and_leaves_nothing() {
    let mut scene = lasting(1.0);
    for agent in ["left", "right"] {
        scene.serve(&speaker(agent), &json!({}));
    }
    let before = lives(&scene);
    scene.system.crash();
    wait_for("the ends of workers", PATIENCE, || {
        scene.system.ports().taken().is_empty().then_some(())
    });
    scene.system.again();
    all_back(&scene, &["left", "right"]);
    assert_ne!(lives(&scene), before);
    let state = scene.system.state().to_owned();
    scene.system.rest();
    assert_eq!(sockets(&state), Vec::<PathBuf>::new());
    assert_eq!(control_groups(&state), Vec::<PathBuf>::new());
}

/// In the state folder.
fn sockets(state: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state.join("run")).into_iter().flatten();
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.collect()
}

fn control_sockets(state: &Path) -> Vec<PathBuf> {
    let is_control = |path: &PathBuf| path.extension().is_some_and(|it| it == "ctl");
    let sockets: Vec<PathBuf> = sockets(state).into_iter().filter(is_control).collect();
    assert!(!sockets.is_empty());
    sockets
}

#[test]
fn who_does_not_know_the_secret_gets_nothing_from_a_worker_and_hinders_nobody() {
    let mut scene = lasting(60.0);
    scene.serve(&speaker("shy"), &json!({}));
    let before = lives(&scene);
    scene.system.crash();
    let socket = control_sockets(scene.system.state()).remove(0);
    let guess = json!({ "secret": "0".repeat(64) }).to_string();
    let orders = [
        format!("{guess}\n{{\"command\":\"drain\",\"within\":{{\"secs\":0,\"nanos\":0}}}}\n"),
        "{\"command\":\"freeze\"}\n".to_owned(),
        "x".repeat(1 << 20),
    ];
    for said in orders {
        let mut stranger = UnixStream::connect(&socket).expect("it listens");
        // It may be shown the door before it has said everything.
        drop(stranger.write_all(said.as_bytes()));
        drop(stranger.shutdown(std::net::Shutdown::Write));
        let mut heard = vec![];
        drop(stranger.read_to_end(&mut heard));
        assert_eq!(String::from_utf8_lossy(&heard), "");
    }
    // These say nothing, and stay.
    let silent = (0..8).map(|_| UnixStream::connect(&socket).expect("it listens"));
    let silent: Vec<UnixStream> = silent.collect();
    scene.system.again();
    all_back(&scene, &["shy"]);
    assert_eq!(lives(&scene), before);
    drop(silent);
}

#[test]
fn what_was_stopped_stays_stopped_and_what_was_removed_stays_removed() {
    let mut scene = lasting(60.0);
    for agent in ["stays", "stopped", "removed"] {
        scene.serve(&speaker(agent), &json!({}));
    }
    let stop = scene.http().post("/supervisor/stop/stopped", &json!({}));
    assert_eq!(stop.expect("an answer").status, 200);
    let remove = scene.http().delete("/supervisor/agents/removed");
    assert_eq!(remove.expect("an answer").status, 200);
    for turn in ["crash", "order"] {
        match turn {
            "crash" => scene.system.crash(),
            _ => scene.system.rest(),
        }
        scene.system.again();
        all_back(&scene, &["stays"]);
        assert_eq!(
            scene.process("stopped")["state"],
            "stopped",
            "after a {turn}"
        );
        assert_eq!(scene.process("removed"), Value::Null, "after a {turn}");
        assert_eq!(scene.call("removed", &json!({})).status, 404);
    }
    let start = scene.http().post("/supervisor/start/stopped", &json!({}));
    assert_eq!(start.expect("an answer").status, 200);
    all_back(&scene, &["stays", "stopped"]);
}

const KEEPER_OF_SECRETS: &str = r#"
import hashlib, os

def handler(body):
    secret = os.environ.get("TOKEN", "")
    return {"me": os.environ["PAR_AGENT_ID"], "plain": os.environ.get("PLAIN"),
            "token": hashlib.sha256(secret.encode()).hexdigest()}
"#;

const TOKEN: &str = "hush-5f2c9a-nobody-may-read-this";

#[test]
fn values_and_secrets_are_there_again_and_secrets_stand_nowhere_else() {
    let mut scene = lasting(0.0);
    let package = par_testkit::PackageBuilder::new("keeper").main(KEEPER_OF_SECRETS);
    package.folder(scene.folder()).expect("written");
    let secrets = scene.folder().join("secrets.env");
    std::fs::write(&secrets, format!("TOKEN={TOKEN}\n")).expect("written");
    let url = scene.system.url().to_owned();
    let words = ["--url", &url, "deploy", "keeper", "--env", "PLAIN=seen"];
    let words = words.iter().chain(&["--secret-file", "secrets.env"]);
    let deployed = par_in(scene.folder(), words, "").ended_with(0);
    assert!(!format!("{deployed:?}").contains(TOKEN));
    let answer = scene.call("keeper", &json!({})).json();
    assert_eq!(answer["plain"], "seen");
    std::fs::remove_file(secrets).expect("removed");
    scene.system.crash();
    scene.system.wait_for_the_end_of_workers();
    scene.system.again();
    all_back(&scene, &["keeper"]);
    assert_eq!(scene.call("keeper", &json!({})).json(), answer);

    for path in [
        "/supervisor/status",
        "/supervisor/agents/keeper/releases",
        "/supervisor/logs?process_id=par-keeper&limit=10000",
        "/supervisor/events?limit=1000",
        "/metrics",
    ] {
        let told = scene.http().get(path).expect("an answer");
        assert_eq!(told.status, 200, "{path}");
        assert!(!told.text().contains(TOKEN), "{path}");
    }
    for pid in scene.system.descendants() {
        let said = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!holds(&said, TOKEN), "the arguments of {pid}");
    }
    let state = scene.system.state().to_owned();
    let mut found = vec![];
    look_for(TOKEN, &state, &mut found);
    assert_eq!(found, Vec::<PathBuf>::new(), "it is sealed");
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&state.join("secrets")), 0o700);
    let sealed = std::fs::read_dir(state.join("secrets")).expect("a folder");
    let sealed: Vec<PathBuf> = sealed.map(|it| it.expect("an entry").path()).collect();
    assert!(!sealed.is_empty(), "it is kept");
    for path in sealed {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

fn holds(bytes: &[u8], words: &str) -> bool {
    let words = words.as_bytes();
    bytes.windows(words.len()).any(|window| window == words)
}

/// Files below `folder` that hold `words`.
fn look_for(words: &str, folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("a kind");
        let path = entry.path();
        if kind.is_dir() {
            look_for(words, &path, found);
        } else if kind.is_file() && std::fs::read(&path).is_ok_and(|it| holds(&it, words)) {
            found.push(path);
        }
    }
}

fn deploy(scene: &Scene, words: &[&str]) {
    let all = ["--url", scene.system.url(), "deploy", "speaker"];
    par_in(scene.folder(), all.iter().chain(words), "").ended_with(0);
}

#[test]
fn a_canary_goes_on_with_the_next_supervisor_and_can_be_promoted_there() {
    let mut scene = lasting(60.0);
    scene.serve(&speaker("speaker"), &json!({}));
    speaker("speaker").folder(scene.folder()).expect("written");
    deploy(&scene, &["--env", "RELEASE=2", "--canary", "50"]);
    let before = lives(&scene);
    scene.system.crash();
    scene.system.again();
    assert_eq!(lives(&scene), before);
    let canary = scene.process("speaker")["canary"].clone();
    assert_eq!(canary["percent"], 50.0, "{canary}");
    let mut heard = BTreeMap::new();
    wait_for("both releases answer", PATIENCE, || {
        let answer = scene.call("speaker", &json!({ "n": 1 }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let release = answer.json()["release"].to_string();
        *heard.entry(release).or_insert(0) += 1;
        (heard.len() == 2).then_some(())
    });
    let url = scene.system.url().to_owned();
    par_in(scene.folder(), ["--url", &url, "promote", "speaker"], "").ended_with(0);
    let answer = scene.call("speaker", &json!({ "n": 1 })).json();
    assert_eq!(answer["release"], "2");
    scene.system.crash();
    scene.system.again();
    scene.wait_for_process("speaker", "one of release 2", |process| {
        let all = process["instances"].as_array().expect("a list");
        all.len() == 1 && all[0]["release"] == 2 && all[0]["state"] == "running"
    });
}

#[test]
fn a_release_that_was_coming_in_when_the_supervisor_died_does_not_come_and_the_old_one_serves_on() {
    let mut scene = lasting(60.0);
    scene.serve(&speaker("speaker"), &json!({}));
    let before = lives(&scene);
    let slow = par_testkit::PackageBuilder::new("speaker");
    let slow = slow.main("import time\ntime.sleep(600)\ndef handler(body):\n    return body\n");
    slow.folder(scene.folder()).expect("written");
    deploy(&scene, &["--no-wait"]);
    let process = scene.wait_for_process("speaker", "rolling", |process| {
        let all = process["instances"].as_array().expect("a list");
        all.iter()
            .any(|it| it["release"] == 2 && it["pid"].is_u64())
    });
    let all = process["instances"].as_array().expect("a list").iter();
    let coming = all
        .filter(|it| it["release"] == 2)
        .find_map(|it| it["pid"].as_u64());
    let coming = coming
        .and_then(|pid| u32::try_from(pid).ok())
        .expect("a process id");
    scene.system.crash();
    assert_eq!(own_port_of(&before), Some(200));
    scene.system.again();
    assert_eq!(lives(&scene), before);
    assert!(!is_alive(coming), "it was not ready to be adopted");
    assert_eq!(scene.call("speaker", &json!({ "n": 1 })).status, 200);
    let releases = scene.http().get("/supervisor/agents/speaker/releases");
    let releases = releases.expect("an answer").json();
    let expected = ("failed", "the supervisor ended before it took the calls");
    let said = (
        releases[0]["outcome"].as_str(),
        releases[0]["reason"].as_str(),
    );
    assert_eq!(said, (Some(expected.0), Some(expected.1)), "{releases}");
    assert_eq!(releases[1]["current"], true, "{releases}");
    // The next one is another.
    speaker("speaker").folder(scene.folder()).expect("written");
    deploy(&scene, &["--env", "RELEASE=3"]);
    let answer = scene.call("speaker", &json!({ "n": 1 })).json();
    assert_eq!(answer["release"], "3");
    assert_eq!(scene.process("speaker")["release"], 3);
}

/// What the only agent answers at its own port.
fn own_port_of(lives: &BTreeMap<String, Value>) -> Option<u16> {
    let port = lives.values().next()?[0][3].as_u64()?;
    let direct = Http::new(&format!("http://127.0.0.1:{port}"));
    Some(direct.post("/invoke", &json!({ "n": 1 })).ok()?.status)
}
