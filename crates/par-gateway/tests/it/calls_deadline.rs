//! gRPC: a deadline becomes shorter from hop to hop, and holds even if the agent forgets it.

use std::time::Duration;

use h2::Reason;
use par_gateway::{Config, Route};
use par_model::grpc::parse_timeout;
use tokio::sync::mpsc;

use crate::channel::{Channel, MOMENT, grpc, head, hear, left, left_early};
use crate::house::{House, rest};
use crate::wire::{LONG, soon};
use crate::worker::Worker;

#[tokio::test]
async fn the_agent_is_given_what_is_left_of_the_time() {
    let house = House::with(Config {
        hold: LONG,
        ..Config::default()
    });
    house.publish([("a", Route::Soon)]);
    let channel = Channel::to(house.address).await;
    let request = grpc("/agents/a/p.S/M", &[("grpc-timeout", "15S")]);
    let mut call = channel.begin(request).await;
    call.end();
    // This one was held for as long as it may be, and came later.
    let short = grpc("/agents/a/p.S/M", &[("grpc-timeout", "50m")]);
    assert_eq!(
        channel.ask(short, "x").await.refusal(),
        ("4", "Request timeout")
    );
    let _worker = Worker::grpc_mirror(&house.socket("a"));
    house.publish_a();
    let answered = call.whole().await;
    let told = answered
        .body
        .lines()
        .find_map(|line| line.strip_prefix("grpc-timeout="));
    let told = parse_timeout(told.expect("a timeout")).expect("a timeout");
    assert!(told < Duration::from_secs(15) - MOMENT / 2, "{told:?}");
}

#[tokio::test]
async fn a_call_without_a_deadline_gets_none() {
    let house = House::new();
    let _worker = Worker::grpc_mirror(&house.socket("a"));
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let answered = channel.ask(grpc("/agents/a/p.S/M", &[]), "x").await;
    assert_eq!(answered.outcome(), ("0", ""));
    assert!(!answered.body.contains("grpc-timeout"), "{answered:?}");
}

#[tokio::test]
async fn a_timeout_that_is_none_is_refused() {
    let house = House::new();
    let _worker = Worker::grpc_mirror(&house.socket("a"));
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let twice = [("grpc-timeout", "1S"), ("grpc-timeout", "1S")];
    for metadata in [
        &[("grpc-timeout", "1 S")][..],
        &[("grpc-timeout", "")],
        &twice,
    ] {
        let answered = channel.ask(grpc("/agents/a/p.S/M", metadata), "x").await;
        assert_eq!(answered.refusal().0, "3", "{metadata:?}");
    }
    // The longest there is.
    let request = grpc("/agents/a/p.S/M", &[("grpc-timeout", "99999999H")]);
    assert_eq!(channel.ask(request, "x").await.outcome().0, "0");
}

#[tokio::test]
async fn an_agent_that_does_not_answer_in_time_is_given_up() {
    let house = House::new();
    let (told, mut reasons) = mpsc::unbounded_channel();
    let _worker = Worker::grpc(&house.socket("a"), move |_, mut respond| {
        let told = told.clone();
        async move {
            let reason = left_early(&mut respond).await;
            told.send(reason).expect("the test waits");
        }
    });
    let backend = house.publish_a();
    let channel = Channel::to(house.address).await;
    let request = grpc("/agents/a/p.S/M", &[("grpc-timeout", "50m")]);
    let answered = channel.ask(request, "x").await;
    assert_eq!(answered.refusal(), ("4", "Request timeout"));
    assert_eq!(soon(reasons.recv()).await, Some(Reason::CANCEL));
    rest(&backend).await;
}

#[tokio::test]
async fn an_answer_that_goes_on_for_too_long_is_ended() {
    // One that says nothing more, and one that never stops.
    for talks in [false, true] {
        let house = House::new();
        let (told, mut reasons) = mpsc::unbounded_channel();
        let _worker = Worker::grpc(&house.socket("a"), move |request, mut respond| {
            let told = told.clone();
            async move {
                let _body = request.into_body();
                let mut answer = respond.send_response(head(), false).expect("a head");
                answer.send_data("first".into(), false).expect("sent");
                while talks && answer.send_data("more".into(), false).is_ok() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                told.send(left(&mut answer).await).expect("the test waits");
            }
        });
        let backend = house.publish_a();
        let channel = Channel::to(house.address).await;
        let request = grpc("/agents/a/p.S/M", &[("grpc-timeout", "50m")]);
        // The caller could go on, too.
        let call = channel.begin(request).await;
        let (response, _sending) = call.head().await;
        let mut body = response.into_body();
        while hear(&mut body).await.is_some() {}
        let trailers = soon(body.trailers()).await.expect("an end");
        assert_eq!(trailers.expect("trailers")["grpc-status"], "4");
        assert_eq!(soon(reasons.recv()).await, Some(Reason::CANCEL));
        rest(&backend).await;
    }
}
