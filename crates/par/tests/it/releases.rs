//! Releases come beside each other, take the calls when they answer, and can be taken back.

use par_testkit::{PackageBuilder, wait_for};
use serde_json::{Value, json};

use crate::backend;
use crate::ran::{Ran, par_in};
use crate::raw::Raw;
use crate::scene::{PATIENCE, Scene};
use crate::traffic::{Rate, Traffic, speaker};

fn par(scene: &Scene, words: &[&str]) -> Ran {
    let all = ["--url", scene.system.url()];
    par_in(scene.folder(), all.iter().chain(words), "")
}

fn par_json(scene: &Scene, words: &[&str]) -> Value {
    let all = ["--json"].iter().chain(words).copied();
    let ran = par(scene, &all.collect::<Vec<_>>());
    ran.ended_with(0).json()
}

/// Brings the speaker up, and leaves its folder for further releases.
fn speaking() -> Scene {
    let scene = Scene::start();
    speaker("speaker").folder(scene.folder()).expect("written");
    par(&scene, &["deploy", "speaker"]).ended_with(0);
    scene
}

fn deploy(scene: &Scene, release: u32) {
    let variable = format!("RELEASE={release}");
    par(scene, &["deploy", "speaker", "--env", &variable]).ended_with(0);
}

fn answers_as(scene: &Scene) -> String {
    let answer = scene.call("speaker", &json!({ "n": 0 }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["release"].as_str().expect("one").to_owned()
}

/// (number, outcome, whether it takes the calls), newest first.
fn releases(scene: &Scene) -> Vec<(u64, String, bool)> {
    let all = par_json(scene, &["releases", "speaker"]);
    let all = all.as_array().expect("a list").iter().map(|it| {
        (
            it["release"].as_u64().expect("a number"),
            it["outcome"].as_str().expect("a word").to_owned(),
            it["current"].as_bool().expect("whether"),
        )
    });
    all.collect()
}

fn listed(number: u64, outcome: &str, current: bool) -> (u64, String, bool) {
    (number, outcome.to_owned(), current)
}

#[test]
fn a_broken_release_leaves_the_old_one_serving_and_says_why() {
    let scene = speaking();
    let before = scene.process("speaker");
    let traffic = Traffic::begin(
        scene.system.url(),
        &["speaker"],
        Rate {
            callers: 2,
            pause: std::time::Duration::from_millis(10),
            listeners: 2,
        },
    );
    traffic.pass(50);
    let raising = PackageBuilder::new("speaker").main("raise RuntimeError('no way')\n");
    let exiting = PackageBuilder::new("speaker").main("import os\nos._exit(7)\n");
    let lacking = PackageBuilder::new("speaker").main("def other(body):\n    pass\n");
    for (package, reason) in [
        (raising, "no way"),
        (exiting, "exited with code 7"),
        (lacking, "handler"),
    ] {
        package.folder(scene.folder()).expect("written");
        let ran = par(&scene, &["deploy", "speaker"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(reason), "{ran:?}");
        println!("{}", ran.stderr.trim());
        let all = releases(&scene);
        assert_eq!(all[0].1, "failed", "{all:?}");
        let shown = par(&scene, &["releases", "speaker"]).stdout;
        assert!(shown.contains(reason), "{shown}");
        let shown = par(&scene, &["ps"]).stdout;
        assert!(shown.contains("did not take its place"), "{shown}");
    }
    traffic.pass(50);
    traffic.end().is_flawless();
    let after = scene.process("speaker");
    for field in ["pid", "agent_pid", "release", "restart_count", "state"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let all = par_json(&scene, &["releases", "speaker"]);
    assert_eq!(all.as_array().map(Vec::len), Some(4));
    assert!(all[0]["reason"].is_string(), "{all}");
    assert_eq!(all[3]["current"], true, "{all}");
}

#[test]
fn an_earlier_release_comes_back_as_a_new_one() {
    let scene = speaking();
    deploy(&scene, 2);
    deploy(&scene, 3);
    assert_eq!(answers_as(&scene), "3");
    let back = par_json(&scene, &["rollback", "speaker"]);
    assert_eq!(back["release"], 4, "{back}");
    assert_eq!(answers_as(&scene), "2");
    par(&scene, &["rollback", "speaker", "1"]).ended_with(0);
    assert_eq!(answers_as(&scene), "1");
    let all = releases(&scene);
    let expected = [
        listed(5, "live", true),
        listed(4, "superseded", false),
        listed(3, "superseded", false),
        listed(2, "superseded", false),
        listed(1, "superseded", false),
    ];
    assert_eq!(all, expected);
    let shown = par(&scene, &["releases", "speaker"]).stdout;
    assert!(shown.contains("rollback to 1"), "{shown}");
}

/// How many of so many calls each release answers.
fn shares(scene: &Scene, calls: u64) -> [u64; 2] {
    let traffic = Traffic::begin(
        scene.system.url(),
        &["speaker"],
        Rate {
            callers: 4,
            pause: std::time::Duration::ZERO,
            listeners: 0,
        },
    );
    traffic.pass(calls);
    let tally = traffic.end();
    tally.is_flawless();
    let of = |release: &str| tally.releases.get(release).copied().unwrap_or(0);
    [of("1"), of("2")]
}

#[test]
fn a_canary_gets_its_share_and_then_all_or_nothing() {
    let scene = speaking();
    let canary = ["deploy", "speaker", "--env", "RELEASE=2", "--canary", "10%"];
    let deployed = par_json(&scene, &canary);
    assert_eq!(deployed["canary_percent"], 10.0, "{deployed}");
    let shown = par(&scene, &["ps"]).stdout;
    assert!(shown.contains("takes 10 % of the calls"), "{shown}");
    let shown = par(&scene, &["releases", "speaker"]).stdout;
    assert!(shown.contains("canary 10 %"), "{shown}");
    let [old, new] = shares(&scene, 1000);
    println!("a canary of 10 % got {new} of {} calls", old + new);
    let percent = new as f64 * 100.0 / (old + new) as f64;
    // Five times the deviation of a thousand fair draws.
    assert!((5.2..=14.8).contains(&percent), "{percent} %");

    par(&scene, &["rollback", "speaker"]).ended_with(0);
    let [_, new] = shares(&scene, 100);
    assert_eq!(new, 0, "the canary was let go");
    assert_eq!(scene.process("speaker")["canary"], Value::Null);

    let deployed = par_json(&scene, &canary);
    assert_eq!(deployed["release"], 3, "{deployed}");
    let promoted = par_json(&scene, &["promote", "speaker"]);
    assert_eq!(promoted["release"], 3, "{promoted}");
    let [old, _] = shares(&scene, 100);
    assert_eq!(old, 0, "the canary has all");
    assert_eq!(scene.process("speaker")["release"], 3);
    assert_eq!(releases(&scene)[0], listed(3, "live", true));
}

#[test]
fn a_stream_goes_on_to_its_end_on_the_release_where_it_began() {
    let scene = speaking();
    let mut stream = Raw::connect(scene.system.url());
    let body = json!({ "count": 30, "every": 0.1 }).to_string();
    let length = format!("content-length: {}", body.len());
    let headers = ["accept: text/event-stream", &length];
    stream.send_head("POST /agents/speaker/exports/ticks", &headers);
    stream.send(body.as_bytes()).expect("sent");
    stream.head();
    assert!(!stream.chunk().is_empty());
    deploy(&scene, 2);
    assert_eq!(answers_as(&scene), "2");
    let mut events = 1;
    loop {
        let chunk = stream.chunk();
        if chunk.is_empty() {
            break;
        }
        let text = String::from_utf8(chunk).expect("text");
        assert!(
            text.contains(r#""release":"1""#) || text.contains(r#""release": "1""#),
            "{text}"
        );
        events += 1;
    }
    assert_eq!(events, 30);
    scene.wait_for_process("speaker", "rid of the old release", |process| {
        process["instances"].as_array().map(Vec::len) == Some(1)
    });
}

#[test]
fn a_session_stays_with_its_release_until_it_ends() {
    let scene = backend::backend();
    assert_eq!(
        backend::value(&scene, "old", "import os\nx = 1\nos.getppid()"),
        backend::value(&scene, "old", "os.getppid()")
    );
    let first = scene.pid(backend::AGENT, "pid");
    backend::package(backend::AGENT)
        .folder(scene.folder())
        .expect("written");
    par(&scene, &["deploy", backend::AGENT]).ended_with(0);
    assert_ne!(scene.pid(backend::AGENT, "pid"), first);
    assert_eq!(backend::value(&scene, "old", "x + 1"), 2);
    backend::run(&scene, "new", "y = 5");
    assert_eq!(backend::value(&scene, "old", "x + 2"), 3);
    assert_eq!(backend::value(&scene, "new", "y"), 5);
    let two = scene.process(backend::AGENT);
    assert_eq!(two["instances"].as_array().map(Vec::len), Some(2), "{two}");
    let path = format!("/agents/{}/sessions/old", backend::AGENT);
    let ended = scene.http().delete(&path).expect("an answer");
    assert!(ended.status < 300, "{}", ended.text());
    scene.wait_for_process(backend::AGENT, "rid of the old release", |process| {
        let all = process["instances"].as_array().expect("a list");
        all.len() == 1 && all[0]["release"] == 2
    });
    assert_eq!(backend::value(&scene, "new", "y"), 5);
}

#[test]
fn replicas_share_the_calls_and_go_again() {
    let scene = speaking();
    let done = par_json(&scene, &["scale", "speaker", "3"]);
    assert_eq!(done["status"], "success");
    let whole = |wanted: usize| {
        move |process: &Value| {
            let all = process["instances"].as_array().expect("a list");
            all.len() == wanted && all.iter().all(|it| it["state"] == "running")
        }
    };
    let process = scene.wait_for_process("speaker", "three", whole(3));
    let all = process["instances"].as_array().expect("a list").iter();
    let mut ports: Vec<_> = all.filter_map(|it| it["port"].as_u64()).collect();
    ports.dedup();
    assert_eq!(ports.len(), 3, "{process}");
    let shown = par(&scene, &["ps"]).stdout;
    assert!(shown.contains("running 3/3"), "{shown}");
    let mut seen = std::collections::BTreeSet::new();
    wait_for("all of them answer", PATIENCE, || {
        let calls = std::thread::scope(|scope| {
            let call = || {
                scene
                    .call("speaker", &json!({ "n": 1, "rest": 0.05 }))
                    .json()
            };
            let calls: Vec<_> = (0..6).map(|_| scope.spawn(call)).collect();
            let calls = calls.into_iter().map(|it| it.join().expect("answered"));
            calls.collect::<Vec<_>>()
        });
        seen.extend(calls.iter().filter_map(|it| it["born"].as_u64()));
        (seen.len() == 3).then_some(())
    });
    deploy(&scene, 2);
    scene.wait_for_process("speaker", "three of the new release", |process| {
        let all = process["instances"].as_array().expect("a list").iter();
        whole(3)(process) && all.clone().all(|it| it["release"] == 2)
    });
    par(&scene, &["scale", "speaker", "1"]).ended_with(0);
    scene.wait_for_process("speaker", "one", whole(1));
    assert_eq!(answers_as(&scene), "2");
}

#[test]
fn wrong_usage_is_told_with_what_to_do() {
    let scene = speaking();
    let ghost = "ghost";
    for (words, code, reason) in [
        (vec!["releases", ghost], 4, "ghost not found"),
        (vec!["rollback", ghost], 4, "ghost not found"),
        (vec!["promote", ghost], 4, "ghost not found"),
        (vec!["scale", ghost, "2"], 4, "ghost not found"),
        (
            vec!["rollback", "speaker", "9"],
            4,
            "`par releases speaker` lists them",
        ),
        (
            vec!["rollback", "speaker"],
            1,
            "no earlier release to go back to",
        ),
        (
            vec!["promote", "speaker"],
            1,
            "--canary 10` brings one beside speaker",
        ),
        (vec!["scale", "speaker", "0"], 2, "0 is not in 1..=64"),
        (vec!["scale", "speaker", "1000"], 2, "is not in 1..=64"),
        (vec!["scale", "speaker", "many"], 2, "many"),
        (vec!["rollback", "speaker", "last"], 2, "last"),
        (
            vec!["deploy", "speaker", "--canary", "120"],
            2,
            "between 0.1 and 99.9",
        ),
        (vec!["deploy", "speaker", "--replicas", "0"], 2, "replicas"),
    ] {
        let ran = par(&scene, &words);
        println!("{}: {}", words.join(" "), ran.stderr.trim());
        assert_eq!(ran.code, code, "{words:?}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{words:?}: {ran:?}");
    }
    par(&scene, &["stop", "speaker"]).ended_with(0);
    let ran = par(&scene, &["deploy", "speaker", "--canary", "10"]);
    println!("a canary of what is stopped: {ran:?}");
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("speaker"), "{ran:?}");
    assert_eq!(scene.process("speaker")["state"], "stopped");
    assert_eq!(scene.process("speaker")["release"], 1);
}
