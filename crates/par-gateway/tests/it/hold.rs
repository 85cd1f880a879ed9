//! Calls that come while no replica is ready.

use std::time::{Duration, Instant};

use par_gateway::{Config, Route};
use tokio::task::JoinSet;

use crate::house::{House, ready};
use crate::wire::{get, soon};
use crate::worker::Worker;

fn patient() -> House {
    House::with(Config {
        hold: Duration::from_secs(60),
        ..Config::default()
    })
}

#[tokio::test]
async fn many_waiting_calls_are_answered_by_the_replica_that_comes() {
    let house = patient();
    house.publish([("a", Route::Soon)]);
    let address = house.address;
    let mut calls: JoinSet<String> = (0..40).map(|_| get(address, "/agents/a/x")).collect();
    // A call that is not held has passed after them through the same doors.
    assert!(
        get(address, "/agents/a/health")
            .await
            .starts_with("HTTP/1.1 503")
    );
    let _worker = Worker::named(&house.socket("a"), "here");
    house.publish_a();
    while let Some(answer) = soon(calls.join_next()).await {
        let answer = answer.expect("an answer");
        assert!(answer.ends_with("here"), "{answer}");
    }
}

#[tokio::test]
async fn a_call_that_waited_long_enough_is_told_that_the_agent_is_unavailable() {
    let house = House::with(Config {
        hold: Duration::from_millis(50),
        ..Config::default()
    });
    house.publish([("a", Route::Soon)]);
    let answer = get(house.address, "/agents/a/x").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.ends_with(r#"{"detail":"Agent a unavailable"}"#),
        "{answer}"
    );
}

#[tokio::test]
async fn a_waiting_call_ends_when_the_agent_is_given_up() {
    let house = patient();
    house.publish([("a", Route::Soon)]);
    let call = tokio::spawn(get(house.address, "/agents/a/x"));
    house.publish([("a", Route::Down)]);
    assert!(
        soon(call)
            .await
            .expect("an answer")
            .starts_with("HTTP/1.1 503")
    );
}

#[tokio::test]
async fn health_is_never_held() {
    let house = patient();
    house.publish([("a", Route::Soon)]);
    let asked = Instant::now();
    let answer = get(house.address, "/agents/a/health").await;
    assert!(
        answer.ends_with(r#"{"detail":"Agent a unavailable"}"#),
        "{answer}"
    );
    assert!(asked.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_call_to_a_worker_that_just_vanished_waits_for_the_next_one() {
    let house = patient();
    let withdrawn_too_late = house.backend("a", house.socket("vanished"));
    house.publish([("a", ready(&withdrawn_too_late))]);
    let call = tokio::spawn(get(house.address, "/agents/a/x"));
    let _worker = Worker::named(&house.socket("a"), "the next one");
    house.publish_a();
    let answer = soon(call).await.expect("an answer");
    assert!(answer.ends_with("the next one"), "{answer}");
}
