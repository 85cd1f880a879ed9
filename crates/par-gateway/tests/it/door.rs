//! The door for agents that call agents: the channel says who calls.

use std::sync::Arc;

use par_gateway::Config;
use par_model::headers::MAX_HOPS;

use crate::house::House;
use crate::wire::Wire;
use crate::worker::Worker;

async fn call(house: &House, headers: &str) -> String {
    let mut wire = Wire::through(&house.internal_door()).await;
    wire.send(format!(
        "GET /agents/a/x HTTP/1.1\r\nhost: g\r\nconnection: close\r\n{headers}\r\n"
    ))
    .await;
    wire.read_to_end().await
}

#[tokio::test]
async fn the_agent_learns_which_agent_calls_whatever_the_request_says() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let answer = call(
        &house,
        "x-par-caller: somebody\r\nx-par-hops: 3\r\nx-par-grant: all\r\n",
    )
    .await;
    assert!(
        answer.contains("x-par-caller=caller\n") && answer.contains("x-par-hops=3\n"),
        "{answer}"
    );
    assert!(
        !answer.contains("somebody") && !answer.contains("grant"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_call_through_too_many_agents_is_refused() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let last = call(&house, &format!("x-par-hops: {MAX_HOPS}\r\n")).await;
    assert!(last.starts_with("HTTP/1.1 200"), "{last}");
    let refused = call(&house, &format!("x-par-hops: {}\r\n", MAX_HOPS + 1)).await;
    assert!(refused.starts_with("HTTP/1.1 508"), "{refused}");
}

#[tokio::test]
async fn hops_that_are_no_number_are_refused() {
    let house = House::new();
    for hops in [
        "x-par-hops: many\r\n",
        "x-par-hops: -1\r\n",
        "x-par-hops: 1\r\nx-par-hops: 1\r\n",
    ] {
        let answer = call(&house, hops).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[tokio::test]
async fn a_process_that_runs_no_agent_is_refused() {
    let house = House::with_callers(Config::default(), Arc::new(|_| None));
    let mut wire = Wire::through(&house.internal_door()).await;
    let answer = wire.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(
        answer.contains(&format!("process {} is not known", std::process::id())),
        "{answer}"
    );
}

#[tokio::test]
async fn an_agent_hears_from_the_control_api_that_it_lives_and_nothing_else() {
    let house = House::new();
    for (path, status, words) in [
        ("/runtime/health", 200, "control /runtime/health for caller"),
        ("/supervisor/status", 403, "agent `caller` may call agents"),
    ] {
        let mut wire = Wire::through(&house.internal_door()).await;
        wire.send(&format!(
            "GET {path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n"
        ))
        .await;
        let answer = wire.read_to_end().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        assert!(answer.contains(words), "{answer}");
    }
}
