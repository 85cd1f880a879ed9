//! Agents' ports: tried before they are given, never shared, and not without end.

use std::collections::BTreeSet;
use std::net::TcpListener;

use par_testkit::PackageBuilder;
use serde_json::json;

use crate::scene::Scene;

fn echo(name: &str) -> PackageBuilder {
    PackageBuilder::new(name).main("def handler(body):\n    return body\n")
}

#[test]
fn ports_that_somebody_listens_on_are_skipped() {
    let scene = Scene::start();
    let first = scene.system.ports().first;
    let _http = TcpListener::bind(("127.0.0.1", first)).expect("free until now");
    let _grpc = TcpListener::bind(("127.0.0.1", first + 10_001)).expect("free until now");
    scene.serve(&echo("a"), &json!({}));
    assert_eq!(scene.process("a")["port"], first + 2);
    assert_eq!(scene.process("a")["grpc_port"], first + 10_002);
    assert_eq!(scene.call("a", &json!(1)).json(), json!(1));
    drop((_http, _grpc));
}

#[test]
fn agents_never_share_a_port_and_one_too_many_is_told_so() {
    let scene = Scene::start();
    let range = scene.system.ports();
    let (first, last) = (range.first, range.last);
    // All but two are somebody else's.
    let taken: Vec<TcpListener> = (first + 2..=last)
        .map(|port| TcpListener::bind(("127.0.0.1", port)).expect("free until now"))
        .collect();
    let mut ports = BTreeSet::new();
    for name in ["a", "b"] {
        scene.serve(&echo(name), &json!({}));
        ports.insert(scene.process(name)["port"].as_u64());
    }
    assert_eq!(ports.len(), 2);
    let refused = scene.spawn(&echo("c"), &json!({}));
    assert_eq!(refused.status, 503, "{}", refused.text());
    let detail = refused.json()["detail"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(detail.contains("port"), "{detail}");

    // What was given back can be given again.
    let stopped = scene.http().post("/supervisor/stop/a", &json!({}));
    assert_eq!(stopped.expect("an answer").status, 200);
    scene.serve(&echo("c"), &json!({}));
    drop(taken);
}

#[test]
fn an_agent_keeps_its_port_when_it_restarts() {
    let scene = Scene::start();
    scene.serve(&echo("a"), &json!({}));
    scene.serve(&echo("b"), &json!({}));
    let before = (
        scene.process("a")["port"].clone(),
        scene.process("b")["port"].clone(),
    );
    let restarted = scene
        .http()
        .request("POST", "/supervisor/restart/a", &[], b"")
        .expect("an answer");
    assert_eq!(restarted.status, 200, "{}", restarted.text());
    scene.wait_until("a", "running");
    let after = (
        scene.process("a")["port"].clone(),
        scene.process("b")["port"].clone(),
    );
    assert_eq!(before, after);
}
