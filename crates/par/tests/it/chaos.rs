//! Everything at once: agents, workers and supervisors are killed, releases roll and replicas come and go, while callers
//! call. What may fail is what was in flight when something was killed, and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use par_testkit::control_groups;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::scene::Scene;
use crate::traffic::{Failure, Rate, Traffic, Wrong, speaker};

const AGENTS: [&str; 8] = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"];
const DEEDS: u32 = 50;
const RATE: Rate = Rate {
    callers: 1,
    pause: Duration::from_millis(20),
    listeners: 3,
};
/// From a kill until everybody has noticed, on a busy machine: a call that comes in between may still reach the dead.
const NOTICED: Duration = Duration::from_secs(1);
/// Names the seed of a run that is to be repeated.
const SEED: &str = "CHAOS_SEED";

/// Splitmix: what comes next follows from the seed alone.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// When something was killed, of whom.
struct Hurt {
    /// None for the supervisor, and with it everybody.
    agent: Option<&'static str>,
    from: Instant,
    until: Instant,
}

impl Hurt {
    fn excuses(&self, failure: &Failure) -> bool {
        let whom = self.agent.is_none_or(|agent| agent == failure.agent);
        whom && failure.began <= self.until && failure.ended >= self.from
    }
}

struct Chaos {
    scene: Scene,
    dice: Dice,
    hurts: Vec<Hurt>,
    done: BTreeMap<&'static str, u32>,
    packages: BTreeMap<&'static str, PathBuf>,
    releases: u32,
}

impl Chaos {
    fn do_something(&mut self) {
        let agent = AGENTS[self.dice.below(8) as usize];
        let deed = match self.dice.below(20) {
            0..=4 => self.kill_of(agent, "agent_pid"),
            5..=9 => self.kill_of(agent, "pid"),
            10 => self.crash(None),
            11 => self.crash(Some(agent)),
            12..=15 => self.roll(agent),
            _ => self.scale(agent),
        };
        *self.done.entry(deed).or_default() += 1;
        let pause = 50 + self.dice.below(250);
        thread::sleep(Duration::from_millis(pause));
    }

    fn kill_of(&mut self, agent: &'static str, field: &str) -> &'static str {
        let process = self.scene.process(agent);
        let instances = process["instances"].as_array().cloned();
        let instances = instances.unwrap_or_default();
        let pids = instances.iter().filter_map(|it| it[field].as_u64());
        let pids: Vec<u64> = pids.collect();
        if pids.is_empty() {
            return "nobody was there to be killed";
        }
        let pid = pids[self.dice.below(pids.len() as u64) as usize];
        self.kill(agent, pid);
        match field {
            "pid" => "workers killed",
            _ => "agents killed",
        }
    }

    fn kill(&mut self, agent: &'static str, pid: u64) {
        let from = Instant::now();
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // It may have ended by itself since it was seen.
        let _gone_already = kill_process(pid.expect("a process id"), Signal::KILL);
        self.hurts.push(Hurt {
            agent: Some(agent),
            from,
            until: Instant::now() + NOTICED,
        });
    }

    /// And, perhaps, a worker while there is no supervisor.
    fn crash(&mut self, with: Option<&'static str>) -> &'static str {
        let worker = with.and_then(|agent| self.scene.process(agent)["pid"].as_u64());
        let from = Instant::now();
        self.scene.system.crash();
        if let (Some(agent), Some(worker)) = (with, worker) {
            self.kill(agent, worker);
        }
        self.scene.system.again();
        self.hurts.push(Hurt {
            agent: None,
            from,
            until: Instant::now(),
        });
        match with {
            Some(_) => "supervisors killed, each with a worker",
            None => "supervisors killed",
        }
    }

    fn roll(&mut self, agent: &'static str) -> &'static str {
        self.releases += 1;
        let mut request = options();
        request["agent_id"] = json!(agent);
        request["package_path"] = json!(self.packages[agent]);
        request["env_vars"] = json!({ "RELEASE": self.releases.to_string() });
        let path = format!("/supervisor/restart/{agent}");
        let answer = self.scene.http().post(&path, &request);
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        "releases"
    }

    fn scale(&mut self, agent: &'static str) -> &'static str {
        let replicas = 1 + self.dice.below(3);
        let path = format!("/supervisor/agents/{agent}/scale");
        let answer = self
            .scene
            .http()
            .post(&path, &json!({ "replicas": replicas }));
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        "scalings"
    }
}

fn options() -> Value {
    json!({ "restart_delay_seconds": 0.0, "max_restarts": 1000, "max_restarts_in_period": 1000 })
}

fn seed() -> u64 {
    let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH);
    given.unwrap_or_else(|| now().expect("it is later than 1970").as_micros() as u64)
}

#[test]
fn whatever_is_killed_only_calls_in_flight_are_lost_and_nobody_else_answers() {
    let seed = seed();
    println!("again with {SEED}={seed}");
    let scene = Scene::with(|builder| builder.lasting(60.0).room_for(60));
    let mut packages = BTreeMap::new();
    for agent in AGENTS {
        scene.serve(&speaker(agent), &options());
        packages.insert(agent, scene.folder().join(format!("{agent}.apkg")));
    }
    let traffic = Traffic::begin(scene.system.url(), &AGENTS, RATE);
    traffic.pass(100);
    let mut chaos = Chaos {
        scene,
        dice: Dice(seed),
        hurts: vec![],
        done: BTreeMap::new(),
        packages,
        releases: 1,
    };
    let begun = Instant::now();
    for _ in 0..DEEDS {
        chaos.do_something();
    }
    println!("{:?} in {:?}", chaos.done, begun.elapsed());
    let scene = &chaos.scene;
    for agent in AGENTS {
        scene.wait_for_process(agent, "whole again", |process| {
            let all = process["instances"].as_array().cloned().unwrap_or_default();
            let whole = all.len() as u64 == process["replicas"].as_u64().unwrap_or(0);
            whole && all.iter().all(|it| it["state"] == "running")
        });
    }
    traffic.pass(200);
    let tally = traffic.end();
    let excused = |failure: &&Failure| {
        let hurts = chaos.hurts.iter();
        !matches!(failure.what, Wrong::Answer(_)) && hurts.clone().any(|it| it.excuses(failure))
    };
    let unexcused: Vec<&Failure> = tally.failures.iter().filter(|it| !excused(it)).collect();
    let mut kinds = BTreeMap::<String, usize>::new();
    for failure in tally.failures.iter().filter(excused) {
        let kind = match &failure.what {
            Wrong::Status(status, _) => status.to_string(),
            _ => "no answer".to_owned(),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    let (calls, streams, slowest) = (tally.calls, tally.streams, tally.slowest);
    println!(
        "{calls} calls and {streams} streams came to their ends, the slowest call in {slowest:?}; failed in flight: {kinds:?}"
    );
    assert!(
        unexcused.is_empty(),
        "{} failures without an excuse: {:?}",
        unexcused.len(),
        unexcused.iter().take(5).collect::<Vec<_>>()
    );
    for agent in AGENTS {
        let answer = scene.call(agent, &json!({ "n": 0 }));
        assert_eq!(answer.json()["me"], agent);
    }
    let state = scene.system.state().to_owned();
    let ended = chaos.scene.system.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(!state.join("run").exists(), "sockets are left");
    assert_eq!(control_groups(&state), Vec::<PathBuf>::new());
}
