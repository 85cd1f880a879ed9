//! For whom a request is, and from whose page it comes: decided once, in front of agents and the control API alike.

use std::net::{IpAddr, Ipv4Addr};

use par_door::Names;
use par_gateway::Config;

use crate::channel::{Channel, grpc};
use crate::house::House;
use crate::wire::{Wire, ask};
use crate::worker::Worker;

fn known() -> (House, Worker) {
    let names = Names::of(
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        vec!["par.example".to_owned()],
        vec!["https://app.example".to_owned()],
    );
    let house = House::with(Config {
        names,
        ..Config::default()
    });
    let worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    (house, worker)
}

#[tokio::test]
async fn foreign_names_and_pages_reach_neither_agents_nor_the_control_api() {
    let (house, _worker) = known();
    for path in ["/agents/a/x", "/supervisor/status"] {
        for (host, more, status) in [
            ("127.0.0.1", "", "200"),
            ("localhost:8000", "", "200"),
            ("par.example", "origin: https://app.example\r\n", "200"),
            ("localhost:1", "origin: http://localhost:1\r\n", "200"),
            ("evil.example", "", "403"),
            ("localhost", "origin: http://evil.example\r\n", "403"),
            ("localhost", "origin: null\r\n", "403"),
            (
                "localhost",
                "origin: http://localhost\r\norigin: http://localhost\r\n",
                "400",
            ),
            ("user@localhost", "", "400"),
            ("localhost:8000:1", "", "400"),
            ("local%68ost", "", "400"),
            ("", "", "400"),
        ] {
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}\r\n");
            let answer = ask(house.address, request).await;
            let expected = format!("HTTP/1.1 {status}");
            assert!(
                answer.starts_with(&expected),
                "{path} {host} {more}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn the_host_that_is_checked_is_the_one_that_the_target_names() {
    let (house, _worker) = known();
    for (target, host, status) in [
        ("http://localhost/agents/a/x", "localhost", "200"),
        ("http://localhost/agents/a/x", "evil.example", "200"),
        ("http://evil.example/agents/a/x", "localhost", "403"),
        ("http://user@localhost/agents/a/x", "localhost", "400"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = ask(house.address, request).await;
        let expected = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&expected), "{target} {host}: {answer}");
        assert!(!answer.contains("x-forwarded-host=evil"), "{answer}");
    }
}

#[tokio::test]
async fn a_grpc_call_under_a_foreign_name_is_not_permitted() {
    let (house, _worker) = known();
    let channel = Channel::to(house.address).await;
    let mut call = grpc("/agents/a/p.S/M", &[]);
    *call.uri_mut() = "http://evil.example/agents/a/p.S/M"
        .parse()
        .expect("a target");
    let answered = channel.ask(call, "x").await;
    let (code, message) = answered.refusal();
    assert_eq!(code, "7", "{message}");
}

#[tokio::test]
async fn an_agent_that_calls_an_agent_comes_from_no_page() {
    let (house, _worker) = known();
    let mut wire = Wire::through(&house.internal_door()).await;
    wire.send("GET /agents/a/x HTTP/1.1\r\nhost: any.example\r\nconnection: close\r\n\r\n")
        .await;
    let answer = wire.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
