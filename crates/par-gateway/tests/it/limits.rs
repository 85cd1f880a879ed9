//! Bounds on what one caller can take.

use std::time::Duration;

use par_gateway::Config;

use crate::house::House;
use crate::wire::{Wire, ask};
use crate::worker::Worker;

#[tokio::test]
async fn a_head_that_does_not_come_in_time_ends_the_connection() {
    let house = House::with(Config {
        header_timeout: Duration::from_millis(100),
        ..Config::default()
    });
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /x HTTP/1.1\r\nhost: g\r\nx: ").await;
    assert_eq!(wire.read_to_end().await, "");
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_told_so_and_closed() {
    let house = House::with(Config {
        threads: 2,
        max_connections: 1,
        ..Config::default()
    });
    let mut inside = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::to(house.address).await;
        wire.send("GET /x HTTP/1.1\r\nhost: g\r\n\r\n").await;
        wire.answer().await;
        inside.push(wire);
    }
    let answer = Wire::to(house.address).await.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains(r#"{"detail":"#), "{answer}");
    drop(inside);
    // Their places are free again within moments.
    crate::wire::soon(async {
        while !ask(house.address, "GET /x HTTP/1.0\r\n\r\n")
            .await
            .contains("200 OK")
        {}
    })
    .await;
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_refused() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let many = "x: y\r\n".repeat(200);
    let large = format!("x: {}\r\n", "y".repeat(70_000));
    for headers in [many, large] {
        let request = format!("GET /agents/a/ HTTP/1.1\r\nhost: g\r\n{headers}\r\n");
        let answer = ask(house.address, request).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn headers_within_the_limit_pass() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let large = "y".repeat(60_000);
    let request =
        format!("GET /agents/a/ HTTP/1.1\r\nhost: g\r\nconnection: close\r\nx: {large}\r\n\r\n");
    let answer = ask(house.address, request).await;
    assert!(answer.contains(&format!("x={large}\n")));
}
