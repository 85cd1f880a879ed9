//! WebSocket: both sides leave HTTP, and bytes pass both ways until both have ended.

use std::time::Duration;

use par_gateway::Config;
use tokio::io::AsyncWriteExt;

use crate::house::{House, rest};
use crate::wire::{Wire, get, soon};
use crate::worker::{Worker, read_head};

const HANDSHAKE: &str = "GET /agents/a/socket HTTP/1.1\r\nhost: g\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\
                         sec-websocket-key: x\r\nsec-websocket-version: 13\r\n\r\n";

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: y\r\n\r\n";

/// Agrees, says hello at once, then says back what it hears, and goodbye at the end.
fn echoing_worker(house: &House) -> Worker {
    Worker::raw(&house.socket("a"), |mut stream| async move {
        let head = read_head(&mut stream).await;
        for line in [
            "upgrade: websocket\r\n",
            "connection: upgrade\r\n",
            "sec-websocket-key: x\r\n",
        ] {
            assert!(head.contains(line), "{head}");
        }
        stream
            .write_all(format!("{AGREED}hello\n").as_bytes())
            .await
            .expect("sent");
        let (mut reading, mut writing) = stream.split();
        tokio::io::copy(&mut reading, &mut writing)
            .await
            .expect("copied");
        writing.write_all(b"goodbye\n").await.expect("sent");
    })
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_end_of_one_leaves_the_other() {
    let house = House::new();
    let _worker = echoing_worker(&house);
    let backend = house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send(HANDSHAKE).await;
    let head = wire.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    for line in [
        "upgrade: websocket\r\n",
        "connection: upgrade\r\n",
        "sec-websocket-accept: y\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
    wire.read_until("hello\n").await;
    for words in ["\0\n\n\0", "GET / HTTP/1.1\nhost: g\n\n"] {
        wire.send(words).await;
        wire.read_until(words).await;
    }
    assert_eq!(backend.in_flight(), 1);
    soon(wire.stream.shutdown()).await.expect("half closed");
    assert_eq!(wire.read_to_end().await, "goodbye\n");
    rest(&backend).await;
}

#[tokio::test]
async fn the_agent_learns_that_the_other_end_of_a_tunnel_is_gone() {
    let house = House::new();
    let (over, mut is_over) = tokio::sync::mpsc::unbounded_channel();
    let _worker = Worker::raw(&house.socket("a"), move |mut stream| {
        let over = over.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(AGREED.as_bytes()).await.expect("sent");
            tokio::io::copy(&mut stream, &mut tokio::io::sink())
                .await
                .expect("read to its end");
            over.send(()).expect("the test waits");
        }
    });
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send(HANDSHAKE).await;
    wire.read_until("\r\n\r\n").await;
    drop(wire);
    soon(is_over.recv()).await.expect("over");
}

#[tokio::test]
async fn an_agent_that_does_not_agree_answers_as_to_any_request() {
    let house = House::new();
    let _worker = Worker::named(&house.socket("a"), "no");
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send(HANDSHAKE).await;
    let answer = wire.read_to_end().await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("no"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_agent_cannot_leave_http_unasked() {
    let house = House::new();
    let _worker = Worker::saying(&house.socket("a"), AGREED);
    house.publish_a();
    let answer = get(house.address, "/agents/a/").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}

#[tokio::test]
async fn a_tunnel_that_is_silent_both_ways_is_closed_and_one_that_is_used_is_not() {
    let idle = Duration::from_millis(400);
    let house = House::with(Config {
        websocket_idle: idle,
        ..Config::default()
    });
    let _worker = echoing_worker(&house);
    let backend = house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send(HANDSHAKE).await;
    wire.read_until("hello\n").await;
    for _ in 0..8 {
        tokio::time::sleep(idle / 4).await;
        wire.send("x").await;
        wire.read_until("x").await;
    }
    wire.read_to_end().await;
    rest(&backend).await;
}
