//! Slow, blocking and endless handlers hold up nobody else.

use std::thread;
use std::time::{Duration, Instant};

use par_testkit::{Http, PackageBuilder};
use serde_json::{Value, json};

use crate::scene::{Scene, exports};

const ECHO: &str = "def handler(body):\n    return body\n";

const SLOW: &str = r#"
import asyncio, time

def handler(body):
    return body

async def doze(body):
    await asyncio.sleep(0.2)
    return "dozed"

def spin(body):
    while True:
        pass

def block(body):
    time.sleep(3)
"#;

fn slow(scene: &Scene) {
    let package = PackageBuilder::new("slow")
        .main(SLOW)
        .manifest(&exports(&["doze", "spin", "block"]));
    scene.serve(&package, &json!({}));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = Instant::now();
    let done = work();
    (begin.elapsed(), done)
}

/// How long a request usually takes, and that it is answered with 200.
fn usual_time(http: &Http, method: &str, path: &str) -> Duration {
    let once = || {
        let (time, answer) = timed(|| http.request(method, path, &[], b"{}"));
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        time
    };
    median((0..31).map(|_| once()).collect())
}

#[test]
fn twenty_async_calls_of_a_fifth_of_a_second_overlap() {
    let scene = Scene::start();
    slow(&scene);
    let (time, ()) = timed(|| {
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let answer = scene.call_within(30.0, "slow", "doze");
                    assert_eq!(answer.json(), "dozed", "{answer:?}");
                });
            }
        });
    });
    // One after the other they take 4 s.
    assert!(time < Duration::from_secs(2), "{time:?}");
}

#[test]
fn beside_an_endless_handler_everybody_else_is_answered_at_once() {
    let scene = Scene::start();
    slow(&scene);
    scene.agent("other", ECHO);
    thread::scope(|scope| {
        let spinning = scope.spawn(|| scene.call_within(4.0, "slow", "spin"));
        scene.wait_for_process("slow", "busy", |process| {
            let cpu = &process["resources"]["cpu"]["percent"];
            cpu.as_f64().is_some_and(|percent| percent > 20.0)
        });
        let http = scene.http();
        for (method, path) in [
            ("GET", "/runtime/health"),
            ("GET", "/agents/slow/health"),
            ("GET", "/agents/slow/meta"),
            ("POST", "/agents/slow/invoke"),
            ("POST", "/agents/other/invoke"),
        ] {
            let time = usual_time(&http, method, path);
            // The promise; the median keeps out what else this machine does.
            assert!(time < Duration::from_millis(50), "{path}: {time:?}");
        }
        let answer = spinning.join().expect("its thread ends");
        assert_eq!(answer.status, 504);
        assert_eq!(answer.json(), json!({"detail": "Request timeout"}));
    });
}

#[test]
fn a_call_ends_at_its_deadline_and_its_agent_goes_on() {
    let scene = Scene::start();
    slow(&scene);
    let before = scene.pid("slow", "agent_pid");
    for export in ["spin", "block"] {
        let (time, answer) = timed(|| scene.call_within(0.3, "slow", export));
        assert_eq!(answer.status, 504, "{export}");
        assert_eq!(answer.json(), json!({"detail": "Request timeout"}));
        assert!(time >= Duration::from_millis(300), "{export}: {time:?}");
        assert!(time < Duration::from_secs(2), "{export}: {time:?}");
    }
    assert_eq!(scene.call("slow", &json!([7])).json(), json!([7]));
    assert_eq!(scene.pid("slow", "agent_pid"), before, "the same process");
}

#[test]
fn endless_handlers_are_ended_and_leave_no_work_behind() {
    let scene = Scene::start();
    slow(&scene);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(scene.call_within(0.3, "slow", "spin").status, 504));
        }
    });
    // What still ran would take the processor for ever.
    scene.wait_for_process("slow", "idle", |process| {
        let cpu = &process["resources"]["cpu"]["percent"];
        cpu.as_f64().is_some_and(|percent| percent < 5.0)
    });
}

#[test]
fn a_deadline_that_makes_no_sense_is_refused() {
    let scene = Scene::start();
    slow(&scene);
    for nonsense in ["0", "-1", "soon"] {
        let headers = [("x-request-timeout", nonsense)];
        let asked = scene
            .http()
            .request("POST", "/agents/slow/invoke", &headers, b"{}");
        let answer = asked.expect("an answer");
        assert_eq!(answer.status, 400, "{nonsense}");
        assert!(answer.json()["detail"].is_string());
    }
    assert_eq!(scene.call("slow", &Value::Null).status, 200);
}
