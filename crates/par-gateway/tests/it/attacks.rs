//! Callers that are slow on purpose, many of them: others do not notice, and the slow ones are ended.

use std::time::Duration;

use par_gateway::Config;
use tokio::time::Instant;

use crate::house::House;
use crate::wire::{Wire, soon};
use crate::worker::Worker;

/// What another caller may wait meanwhile.
const NOTICED: Duration = Duration::from_millis(50);
const MANY: usize = 200;

/// Opens many connections that each say `begin` and then `drip` again and again, until all were ended, while another
/// caller calls.
async fn attack(house: &House, begin: &str, drip: &str) {
    let mut slow = Vec::new();
    for _ in 0..MANY {
        let mut wire = Wire::to(house.address).await;
        wire.send(begin).await;
        slow.push(wire);
    }
    let mut other = Wire::to(house.address).await;
    let (begun, mut waits) = (Instant::now(), vec![]);
    while !slow.is_empty() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{} are still there",
            slow.len()
        );
        let mut left = Vec::new();
        for wire in slow {
            // It was ended when it cannot be written to, or has been told so.
            let mut buffer = [0; 4096];
            let is_open = match wire.stream.try_read(&mut buffer) {
                Ok(0) => false,
                Ok(_) => true,
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            };
            if is_open && wire.stream.try_write(drip.as_bytes()).is_ok() {
                left.push(wire);
            }
        }
        slow = left;
        let asked = Instant::now();
        other
            .send("GET /agents/a/x HTTP/1.1\r\nhost: g\r\n\r\n")
            .await;
        let answer = soon(other.answer()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        waits.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    waits.sort();
    // A machine that is busy with something else may hold up one or another, not most of them.
    let usual = waits[waits.len() / 2];
    assert!(
        usual <= NOTICED,
        "another caller waited for {usual:?}: {waits:?}"
    );
}

fn house() -> (House, Worker) {
    let house = House::with(Config {
        threads: 1,
        header_timeout: Duration::from_millis(500),
        answer_slack: Duration::from_millis(200),
        slowest_upload: 10_000,
        ..Config::default()
    });
    let worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    (house, worker)
}

#[tokio::test]
async fn slow_heads_are_ended_and_noticed_by_nobody() {
    let (house, _worker) = house();
    attack(
        &house,
        "GET /agents/a/x HTTP/1.1\r\nhost: g\r\n",
        "x: y\r\n",
    )
    .await;
}

#[tokio::test]
async fn request_lines_that_never_end_are_ended() {
    let (house, _worker) = house();
    attack(&house, "GET /agents/a/", "x").await;
}

#[tokio::test]
async fn slow_bodies_are_ended_and_noticed_by_nobody() {
    let (house, _worker) = house();
    let head = "POST /agents/a/x HTTP/1.1\r\nhost: g\r\nx-request-timeout: 0.1\r\n";
    let sized = format!("{head}content-length: 100000\r\n\r\n");
    attack(&house, &sized, "x").await;
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    attack(&house, &chunked, "1\r\nx\r\n").await;
}

#[tokio::test]
async fn a_preface_that_never_ends_is_ended() {
    let (house, _worker) = house();
    attack(&house, "PRI * HTTP/2.0\r\n\r\nSM", "").await;
}
