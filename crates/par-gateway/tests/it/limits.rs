//! Bounds on what one caller can take.

use std::time::Duration;

use par_gateway::Config;
use tokio::io::AsyncWriteExt;

use crate::house::House;
use crate::wire::{Wire, ask, get, soon};
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
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let _worker = Worker::raw(&house.socket("a"), move |mut stream| {
        let arrived = arrived.clone();
        async move {
            read_head(&mut stream).await;
            arrived.send(()).expect("the test waits");
            std::future::pending().await
        }
    });
    house.publish_a();
    let mut inside = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::to(house.address).await;
        wire.send("GET /agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n")
            .await;
        soon(arrivals.recv()).await.expect("a call");
        inside.push(wire);
    }
    let answer = Wire::to(house.address).await.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.ends_with(r#"{"detail":"Too many connections; try again later"}"#),
        "{answer}"
    );
    drop(inside);
    // Their places are free again within moments.
    soon(async {
        while !ask(house.address, "GET /x HTTP/1.0\r\n\r\n")
            .await
            .contains("200 OK")
        {}
    })
    .await;
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones_and_the_longest_idle_first() {
    let house = House::with(Config {
        threads: 1,
        max_connections: 2,
        answer_slack: IMPATIENCE,
        ..Config::default()
    });
    let mut silent = Wire::to(house.address).await;
    let mut later = Wire::to(house.address).await;
    soon(async {
        while !ask(house.address, "GET /x HTTP/1.0\r\n\r\n")
            .await
            .contains("200 OK")
        {}
    })
    .await;
    assert_eq!(silent.read_to_end().await, "");
    later.send("GET /x HTTP/1.1\r\nhost: g\r\n\r\n").await;
    let answer = later.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A worker that never answers, as one that is stopped, with a gateway that waits for `answer_slack` longer.
fn stopped() -> (House, Worker) {
    let house = House::with(Config {
        answer_slack: IMPATIENCE,
        ..Config::default()
    });
    let worker = Worker::raw(&house.socket("a"), |stream| async move {
        let _open = stream;
        std::future::pending().await
    });
    house.publish_a();
    (house, worker)
}

#[tokio::test]
async fn a_worker_that_says_nothing_is_given_up_after_the_deadline() {
    let (house, _worker) = stopped();
    let head = "GET /agents/a/ HTTP/1.1\r\nhost: g\r\nx-request-timeout: 0.05\r\n\r\n";
    let mut wire = Wire::to(house.address).await;
    for _ in 0..2 {
        wire.send(head).await;
        let answer = wire.answer().await;
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
        assert!(
            answer.ends_with(r#"{"detail":"Request timeout"}"#),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn without_a_wish_of_the_caller_the_usual_deadline_counts() {
    let house = House::with(Config {
        call_timeout: IMPATIENCE,
        answer_slack: IMPATIENCE,
        ..Config::default()
    });
    let _worker = Worker::raw(&house.socket("a"), |mut stream| async move {
        read_head(&mut stream).await;
        let ended = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        assert!(ended.is_ok(), "the gateway closes what it gives up");
    });
    let backend = house.publish_a();
    let answer = get(house.address, "/agents/a/").await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    crate::house::rest(&backend).await;
}

#[tokio::test]
async fn an_upload_that_still_moves_is_not_given_up() {
    let house = House::with(Config {
        answer_slack: 2 * IMPATIENCE,
        ..Config::default()
    });
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send("POST /agents/a/ HTTP/1.1\r\nhost: g\r\nx-request-timeout: 0.001\r\ncontent-length: 8\r\n\r\n")
        .await;
    for _ in 0..8 {
        tokio::time::sleep(IMPATIENCE / 2).await;
        wire.send("x").await;
    }
    let answer = wire.answer().await;
    assert!(answer.contains("body=xxxxxxxx\n"), "{answer}");
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
