//! An agent that nobody calls costs nothing, and whoever calls it does not notice.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use par_testkit::{Http, PackageBuilder, wait_for};
use serde_json::{Value, json};

use crate::ran::par_in;
use crate::scene::{PATIENCE, Scene};
use crate::traffic::speaker;

/// Never stands still unless it is made to.
const RESTLESS: &str = r#"
import os, threading, time

# Of this process, and no other.
BORN = int.from_bytes(os.urandom(4), "big")
ME = os.environ["PAR_AGENT_ID"]

def count():
    n = 0
    while True:
        n += 1
        with open(os.environ["COUNT"] + ".new", "w") as file:
            file.write(str(n))
        os.rename(os.environ["COUNT"] + ".new", os.environ["COUNT"])
        time.sleep(0.005)

threading.Thread(target=count, daemon=True).start()

def handler(body):
    return {"me": ME, "born": BORN}
"#;

fn restless(scene: &Scene, name: &str, options: &Value) -> PathBuf {
    let count = scene.system.state().join("agents").join(name).join("count");
    let mut options = options.clone();
    options["env_vars"] = json!({ "COUNT": count });
    scene.serve(&PackageBuilder::new(name).main(RESTLESS), &options);
    count
}

fn counted(file: &Path) -> u64 {
    let text = std::fs::read_to_string(file).expect("it counts");
    text.parse().expect("a number")
}

#[track_caller]
fn wait_until_counted(file: &Path, more: u64) {
    let until = counted(file) + more;
    wait_for("it counts on", PATIENCE, || {
        (counted(file) >= until).then_some(())
    });
}

/// Waits until an agent is `frozen` or `stopped` because nobody calls.
#[track_caller]
fn wait_until_idle(scene: &Scene, agent: &str, how: &str) -> Value {
    scene.wait_for_process(agent, how, |process| process["idle"] == how)
}

/// Frozen soon, and never stopped.
fn freezing() -> Value {
    json!({ "idle_timeout_seconds": 0.3, "idle_stop_seconds": 600 })
}

/// Stopped soon.
fn stopping() -> Value {
    json!({ "idle_timeout_seconds": 0.2, "idle_stop_seconds": 0.2 })
}

#[test]
fn an_agent_that_nobody_calls_is_held_still_until_somebody_does_whichever_way() {
    let scene = Scene::start();
    let still = restless(&scene, "still", &freezing());
    let awake = restless(&scene, "awake", &json!({}));
    let port = scene.process("still")["port"].as_u64().expect("a port");
    let direct = Http::new(&format!("http://127.0.0.1:{port}"));
    let born = scene.call("still", &json!({})).json()["born"].clone();
    for way in ["gateway", "own port"] {
        wait_until_idle(&scene, "still", "frozen");
        let before = counted(&still);
        wait_until_counted(&awake, 40);
        assert_eq!(counted(&still), before, "it is held still");
        // Looking at it does not wake it.
        let health = scene.http().get("/supervisor/health").expect("an answer");
        let health = health.json()["agent_health"]["still"].clone();
        assert_eq!(health["status"], "healthy", "{health}");
        let health = scene.http().get("/agents/still/health");
        assert_eq!(health.expect("an answer").status, 200);
        assert_eq!(direct.get("/health").expect("an answer").status, 200);
        assert_eq!(counted(&still), before, "nobody called it");
        assert_eq!(scene.process("still")["idle"], "frozen");
        let begun = Instant::now();
        let answer = match way {
            "gateway" => scene.call("still", &json!({})),
            _ => direct.post("/invoke", &json!({})).expect("an answer"),
        };
        println!(
            "thawed and answered by its {way} after {:?}",
            begun.elapsed()
        );
        let expected = json!({ "me": "still", "born": born });
        assert_eq!(answer.json(), expected);
        wait_until_counted(&still, 1);
    }
    assert_eq!(scene.process("still")["restart_count"], 0);
}

#[test]
fn fifty_calls_of_a_stopped_agent_share_one_start_and_all_are_answered() {
    let scene = Scene::start();
    scene.serve(&speaker("sleeper"), &stopping());
    let before = incarnation(&scene, "sleeper");
    let asleep = wait_until_idle(&scene, "sleeper", "stopped");
    assert_eq!(asleep["pid"], Value::Null, "{asleep}");
    let health = scene.http().get("/supervisor/health").expect("an answer");
    println!("health of a sleeper: {}", health.json());
    assert_eq!(
        scene.process("sleeper")["idle"],
        "stopped",
        "nobody called it"
    );
    let begun = Instant::now();
    let pids = thread::scope(|scope| {
        let call = |n: usize| {
            let scene = &scene;
            move || {
                let answer = scene.call("sleeper", &json!({ "n": n, "rest": 0.3 }));
                assert_eq!(answer.status, 200, "{}", answer.text());
                let said = answer.json();
                assert_eq!((&said["me"], &said["n"]), (&json!("sleeper"), &json!(n)));
                said["born"].as_u64().expect("a number")
            }
        };
        let calls: Vec<_> = (0..50).map(|n| scope.spawn(call(n))).collect();
        let pids = calls.into_iter().map(|call| call.join().expect("answered"));
        pids.collect::<Vec<_>>()
    });
    println!(
        "50 calls of a stopped agent, answered after {:?}",
        begun.elapsed()
    );
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    assert_eq!(incarnation(&scene, "sleeper"), before + 1);
    assert_eq!(scene.process("sleeper")["restart_count"], 0);
}

/// Which life of its only replica it is.
fn incarnation(scene: &Scene, agent: &str) -> u64 {
    let process = scene.process(agent);
    let replica = &process["instances"][0]["replica"];
    replica.as_u64().expect("it lives")
}

#[test]
fn a_deadline_bounds_the_wait_for_an_agent_that_wakes_slowly() {
    let scene = Scene::start();
    let slowly = scene.system.state().join("agents/slow/slowly");
    let python = format!(
        "import os, time\nif os.path.exists({slowly:?}):\n    time.sleep(2)\ndef ask(body):\n    return 1\nhandler = ask\n"
    );
    let package = PackageBuilder::new("slow").main(&python);
    let package = package.manifest(&crate::scene::exports(&["ask"]));
    scene.serve(&package, &stopping());
    wait_until_idle(&scene, "slow", "stopped");
    std::fs::write(slowly, "").expect("written");
    let begun = Instant::now();
    let answer = scene.call_within(0.4, "slow", "ask");
    let took = begun.elapsed();
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(took < Duration::from_millis(1900), "{took:?}");
    // Who has the time gets an answer of the same start.
    let answer = scene.call_within(30.0, "slow", "ask");
    assert_eq!((answer.status, answer.json()), (200, json!(1)));
}

#[test]
fn sleepers_sleep_on_whatever_becomes_of_the_supervisor() {
    let mut scene = Scene::with(|builder| builder.lasting(60.0));
    scene.serve(&speaker("frozen"), &freezing());
    scene.serve(&speaker("stopped"), &stopping());
    wait_until_idle(&scene, "frozen", "frozen");
    wait_until_idle(&scene, "stopped", "stopped");
    let frozen = scene.pid("frozen", "agent_pid");
    scene.system.crash();
    scene.system.again();
    assert_eq!(scene.process("stopped")["idle"], "stopped");
    assert_eq!(scene.process("stopped")["pid"], Value::Null);
    let process = wait_until_idle(&scene, "frozen", "frozen");
    assert_eq!(process["agent_pid"], frozen);
    for agent in ["frozen", "stopped"] {
        let answer = scene.call(agent, &json!({ "n": 1 }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["me"], agent);
    }
    wait_until_idle(&scene, "stopped", "stopped");
    scene.system.rest();
    scene.system.again();
    assert_eq!(
        scene.process("stopped")["idle"],
        "stopped",
        "also after an end in order"
    );
    assert_eq!(scene.call("stopped", &json!({ "n": 1 })).status, 200);
}

fn par(scene: &Scene, words: &[&str]) {
    let all = ["--url", scene.system.url()];
    par_in(scene.folder(), all.iter().chain(words), "").ended_with(0);
}

#[test]
fn what_is_asked_of_a_sleeper_is_done() {
    let scene = Scene::start();
    speaker("sleeper").folder(scene.folder()).expect("written");
    let deploy = |release: &str, times: [&str; 2]| {
        let variable = format!("RELEASE={release}");
        let words = ["deploy", "sleeper", "--env", &variable];
        let times = ["--idle-timeout", times[0], "--idle-stop", times[1]];
        par(&scene, &[&words[..], &times[..]].concat());
    };
    let release = || {
        let answer = scene.call("sleeper", &json!({ "n": 1 }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["release"].clone()
    };
    deploy("1", ["0.2", "600"]);
    wait_until_idle(&scene, "sleeper", "frozen");
    deploy("2", ["0.2", "0.2"]);
    assert_eq!(release(), "2");
    wait_until_idle(&scene, "sleeper", "stopped");
    par(&scene, &["scale", "sleeper", "2"]);
    assert_eq!(release(), "2");
    wait_until_idle(&scene, "sleeper", "stopped");
    deploy("3", ["0.2", "600"]);
    assert_eq!(release(), "3");
    wait_until_idle(&scene, "sleeper", "frozen");
    par(&scene, &["restart", "sleeper"]);
    assert_eq!(release(), "3");
    wait_until_idle(&scene, "sleeper", "frozen");
    par(&scene, &["stop", "sleeper"]);
    let process = scene.wait_until("sleeper", "stopped");
    assert_eq!(process["idle"], Value::Null, "it was stopped for good");
    let refused = scene.call("sleeper", &json!({ "n": 1 }));
    assert_eq!(refused.status, 503, "a call does not wake what was stopped");
    par(&scene, &["start", "sleeper"]);
    assert_eq!(release(), "3");
    wait_until_idle(&scene, "sleeper", "frozen");
    par(&scene, &["rm", "sleeper"]);
    assert_eq!(scene.call("sleeper", &json!({ "n": 1 })).status, 404);
}

#[test]
fn calls_that_come_just_as_an_agent_falls_asleep_are_answered_too() {
    let scene = Scene::start();
    let freezing = json!({ "idle_timeout_seconds": 0.03, "idle_stop_seconds": 600 });
    let stopping = json!({ "idle_timeout_seconds": 0.03, "idle_stop_seconds": 0.03 });
    scene.serve(&speaker("freezes"), &freezing);
    scene.serve(&speaker("stops"), &stopping);
    // Some of these pauses end just when it is decided.
    let call = |agent: &str, calls: u64, longest: u64| {
        for n in 0..calls {
            thread::sleep(Duration::from_millis(25 + n * 7 % longest));
            let answer = scene.call(agent, &json!({ "n": n }));
            assert_eq!(answer.status, 200, "{agent} {n}: {}", answer.text());
            assert_eq!(answer.json()["n"], n);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| call("freezes", 120, 30));
        scope.spawn(|| call("stops", 40, 110));
    });
    let events = scene.http().get("/supervisor/events?limit=1000");
    let events = events.expect("an answer").json()["events"].clone();
    let count = |kind: &str| {
        let all = events.as_array().expect("a list").iter();
        all.filter(|event| event["kind"] == kind).count()
    };
    println!(
        "frozen {}, stopped {}",
        count("frozen"),
        count("idle_stopped")
    );
}
