//! Agents that sleep.

use std::time::{Duration, Instant};

use par_gateway::{Bell, Config, Route};
use tokio::task::JoinSet;

use crate::channel::{Channel, grpc, hear};
use crate::house::{House, agent};
use crate::wire::{ask, get, soon};
use crate::worker::Worker;

/// One who waits for a sleeper, and for nobody else.
fn awaiting() -> House {
    House::with(Config {
        hold: Duration::ZERO,
        ..Config::default()
    })
}

async fn woken(house: &House) {
    soon(async {
        while house.woken().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_hundred_callers_share_one_wake_up() {
    let house = awaiting();
    house.publish([("a", Route::Asleep(Bell::new()))]);
    let address = house.address;
    let channel = Channel::to(address).await;
    let mut calls: JoinSet<String> = (0..100).map(|_| get(address, "/agents/a/x")).collect();
    let streamed = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    woken(&house).await;
    let _worker = Worker::named(&house.socket("a"), "awake");
    house.publish_a();
    while let Some(answer) = soon(calls.join_next()).await {
        let answer = answer.expect("an answer");
        assert!(answer.ends_with("awake"), "{answer}");
    }
    assert_eq!(house.woken(), [agent("a")]);
    drop(streamed);
}

#[tokio::test]
async fn a_bell_that_was_rung_is_waited_at_when_it_is_published_again() {
    let house = awaiting();
    let bell = Bell::new();
    house.publish([("a", Route::Asleep(bell.clone()))]);
    let first = tokio::spawn(get(house.address, "/agents/a/x"));
    woken(&house).await;
    assert!(bell.has_rung());
    house.publish([("a", Route::Asleep(bell)), ("b", Route::Down)]);
    let second = tokio::spawn(get(house.address, "/agents/a/x"));
    // One that came after it is not answered before.
    assert!(get(house.address, "/agents/b/x").await.contains(" 503 "));
    let _worker = Worker::named(&house.socket("a"), "awake");
    house.publish_a();
    for call in [first, second] {
        assert!(soon(call).await.expect("an answer").ends_with("awake"));
    }
    assert_eq!(house.woken().len(), 1);
}

#[tokio::test]
async fn a_deadline_bounds_the_wait() {
    let house = awaiting();
    house.publish([("a", Route::Asleep(Bell::new()))]);
    let begun = Instant::now();
    let request = "GET /agents/a/x HTTP/1.1\r\nhost: g\r\nx-request-timeout: 0.1\r\nconnection: close\r\n\r\n";
    let answer = ask(house.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    let channel = Channel::to(house.address).await;
    let called = grpc("/agents/a/p.S/M", &[("grpc-timeout", "100m")]);
    assert_eq!(channel.ask(called, "x").await.refusal().0, "4");
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(house.woken().len(), 1);
}

#[tokio::test]
async fn one_who_waited_passes_on_the_time_that_is_left() {
    let house = awaiting();
    house.publish([("a", Route::Asleep(Bell::new()))]);
    let request =
        "GET /agents/a/x HTTP/1.1\r\nhost: g\r\nx-request-timeout: 60\r\nconnection: close\r\n\r\n";
    let call = tokio::spawn(ask(house.address, request));
    woken(&house).await;
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let answer = soon(call).await.expect("an answer");
    assert!(answer.contains("x-request-timeout=59."), "{answer}");
}

#[tokio::test]
async fn one_who_does_not_wake_in_time_is_unavailable() {
    let house = House::with(Config {
        hold: Duration::ZERO,
        wake: Duration::from_millis(50),
        ..Config::default()
    });
    house.publish([("a", Route::Asleep(Bell::new()))]);
    let answer = get(house.address, "/agents/a/x").await;
    assert!(
        answer.ends_with(r#"{"detail":"Agent a unavailable"}"#),
        "{answer}"
    );
}

#[tokio::test]
async fn health_of_a_sleeper_is_well_and_wakes_nobody() {
    let house = awaiting();
    let bell = Bell::new();
    house.publish([("a", Route::Asleep(bell.clone()))]);
    let answer = get(house.address, "/agents/a/health").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("content-type: application/json\r\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with(r#"{"status":"idle","agent_id":"a"}"#),
        "{answer}"
    );
    let channel = Channel::to(house.address).await;
    let check = grpc("/grpc.health.v1.Health/Check", &[("x-agent-id", "a")]);
    let answered = channel.ask(check, "\0\0\0\0\0").await;
    assert_eq!(answered.outcome().0, "0");
    assert_eq!(answered.body.as_bytes(), [0, 0, 0, 0, 2, 8, 1]);
    assert!(
        get(house.address, "/agents/a/.par/metrics")
            .await
            .contains(" 503 ")
    );
    assert!(!bell.has_rung());
    assert!(house.woken().is_empty());
}

#[tokio::test]
async fn one_who_watches_a_sleeper_is_told_when_it_sleeps_no_more() {
    let house = awaiting();
    house.publish([("a", Route::Asleep(Bell::new()))]);
    let channel = Channel::to(house.address).await;
    let watch = grpc("/agents/a/grpc.health.v1.Health/Watch", &[]);
    let (response, _sending) = channel.begin(watch).await.head().await;
    let mut body = response.into_body();
    assert_eq!(
        hear(&mut body).await.as_deref(),
        Some("\0\0\0\0\x02\x08\x01")
    );
    house.publish([("a", Route::Soon)]);
    assert_eq!(hear(&mut body).await, None);
    let trailers = soon(body.trailers())
        .await
        .expect("an end")
        .expect("trailers");
    assert_eq!(trailers["grpc-status"], "14");
}
