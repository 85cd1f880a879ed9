//! Bounds on what one caller can take.

use std::time::Duration;

use par_gateway::Config;
use tokio::io::AsyncWriteExt;

use crate::house::House;
use crate::wire::{Wire, ask, get};
use crate::worker::{Worker, read_head};

const IMPATIENCE: Duration = Duration::from_millis(100);

fn impatient() -> House {
    House::with(Config {
        header_timeout: IMPATIENCE,
        ..Config::default()
    })
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_ends_the_connection() {
    let house = impatient();
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /x HTTP/1.1\r\nhost: g\r\nx: ").await;
    assert_eq!(wire.read_to_end().await, "");
}

#[tokio::test]
async fn a_connection_that_is_silent_after_an_answer_is_closed() {
    let house = impatient();
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /x HTTP/1.1\r\nhost: g\r\n\r\n").await;
    wire.answer().await;
    assert_eq!(wire.read_to_end().await, "");
}

#[tokio::test]
async fn a_caller_that_waits_for_its_answer_or_for_the_rest_of_it_may_be_silent() {
    let house = impatient();
    let _worker = Worker::raw(&house.socket("a"), |mut stream| async move {
        read_head(&mut stream).await;
        let pieces = ["HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n", "ab", "cd"];
        for piece in pieces {
            tokio::time::sleep(3 * IMPATIENCE).await;
            stream.write_all(piece.as_bytes()).await.expect("sent");
        }
    });
    house.publish_a();
    let answer = get(house.address, "/agents/a/").await;
    assert!(answer.ends_with("\r\n\r\nabcd"), "{answer}");
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
