//! What an operator does while a thousand calls a second come and a hundred streams are open: nobody notices.

use std::time::{Duration, Instant};

use par_testkit::{System, wait_for};
use serde_json::{Value, json};

use crate::ran::par_in;
use crate::scene::{PATIENCE, Scene};
use crate::traffic::{Rate, Tally, Traffic, speaker};

/// Two, because one works on no more than 64 calls at a time, streams included.
const AGENTS: [&str; 2] = ["left", "right"];

/// Of each.
const RATE: Rate = Rate {
    callers: 5,
    pause: Duration::from_millis(10),
    listeners: 50,
};

fn scene() -> Scene {
    let scene = Scene::with(|builder| builder.lasting(20.0));
    for agent in AGENTS {
        scene.serve(&speaker(agent), &json!({}));
    }
    scene
}

fn par(scene: &Scene, words: &[&str]) -> Value {
    let all = ["--url", scene.system.url(), "--json"];
    let ran = par_in(scene.folder(), all.iter().chain(words), "");
    ran.ended_with(0).json()
}

#[expect(clippy::print_stdout, reason = "the figures of a run")]
fn tell(what: &str, tally: &Tally, took: Duration) {
    let rate = tally.calls as f64 / took.as_secs_f64();
    let (calls, streams, slowest) = (tally.calls, tally.streams, tally.slowest);
    println!(
        "{what}: {calls} calls ({rate:.0}/s), {streams} streams, slowest {slowest:?}, {} failures",
        tally.failures.len()
    );
}

fn running(scene: &Scene, agent: &str, wanted: usize) {
    scene.wait_for_process(agent, "as many as wanted", |process| {
        let all = process["instances"].as_array().expect("a list");
        all.len() == wanted && all.iter().all(|it| it["state"] == "running")
    });
}

#[test]
fn a_release_rolls_and_replicas_come_and_go_and_no_call_is_lost_and_no_stream_broken() {
    let scene = scene();
    let traffic = Traffic::begin(scene.system.url(), &AGENTS, RATE);
    let began = Instant::now();
    traffic.pass(500);
    for agent in AGENTS {
        speaker(agent).folder(scene.folder()).expect("written");
        par(&scene, &["deploy", agent, "--env", "RELEASE=2"]);
        traffic.pass(300);
    }
    par(&scene, &["scale", "left", "3"]);
    running(&scene, "left", 3);
    traffic.pass(500);
    par(&scene, &["scale", "left", "1"]);
    traffic.pass(500);
    let took = began.elapsed();
    let tally = traffic.end();
    tell("roll, 1 → 3 → 1", &tally, took);
    tally.is_flawless();
    assert!(tally.releases["1"] >= 500 && tally.releases["2"] >= 1000);
    assert!(tally.streams >= 100);
    running(&scene, "left", 1);
}

#[test]
fn two_upgrades_one_after_the_other_lose_no_call_and_break_no_stream() {
    let mut scene = scene();
    let before = AGENTS.map(|agent| scene.process(agent));
    let traffic = Traffic::begin(scene.system.url(), &AGENTS, RATE);
    let began = Instant::now();
    traffic.pass(500);
    for _ in 0..2 {
        let before = scene.system.pid();
        upgrade(&mut scene);
        assert_ne!(scene.system.pid(), before);
        traffic.pass(500);
    }
    let took = began.elapsed();
    let tally = traffic.end();
    tell("two upgrades", &tally, took);
    tally.is_flawless();
    for (agent, before) in AGENTS.iter().zip(before) {
        let after = scene.process(agent);
        for field in ["pid", "agent_pid", "port", "release", "restart_count"] {
            assert_eq!(after[field], before[field], "{field} of {agent}");
        }
    }
    first_ends(&mut scene.system);
}

fn upgrade(scene: &mut Scene) {
    let upgraded = par(scene, &["upgrade"]);
    let pid = upgraded["pid"].as_u64().expect("a process id");
    scene
        .system
        .handed_over(u32::try_from(pid).expect("a process id"));
}

fn first_ends(system: &mut System) {
    wait_for("the end of the first supervisor", PATIENCE, || {
        system.first_has_ended().then_some(())
    });
}
