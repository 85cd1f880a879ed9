//! gRPC: many calls share one connection to a worker, and it is replaced when it is gone or full.

use std::sync::Arc;

use h2::server;
use par_gateway::{Config, Route};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::channel::{Answered, Channel, grpc, head, well};
use crate::house::{House, ready, rest};
use crate::wire::soon;
use crate::worker::Worker;

fn one_thread() -> House {
    House::with(Config {
        threads: 1,
        ..Config::default()
    })
}

/// Answers when it is allowed to.
fn patient(house: &House, streams: u32) -> (Worker, Arc<Semaphore>, mpsc::UnboundedReceiver<()>) {
    let permits = Arc::new(Semaphore::new(0));
    let allowed = Arc::clone(&permits);
    let (asked, was_asked) = mpsc::unbounded_channel();
    let mut http = server::Builder::new();
    http.max_concurrent_streams(streams);
    let worker = Worker::grpc_with(&house.socket("a"), http, move |_, mut respond| {
        let (allowed, asked) = (Arc::clone(&allowed), asked.clone());
        async move {
            asked.send(()).expect("the test waits");
            allowed.acquire().await.expect("open").forget();
            let mut answer = respond.send_response(head(), false).expect("a head");
            answer.send_trailers(well()).expect("an end");
        }
    });
    (worker, permits, was_asked)
}

async fn ask(channel: &Channel) -> Answered {
    channel.ask(grpc("/agents/a/p.S/M", &[]), "x").await
}

async fn all(mut calls: JoinSet<Answered>) {
    while let Some(answered) = soon(calls.join_next()).await {
        assert_eq!(answered.expect("an answer").outcome(), ("0", ""));
    }
}

#[tokio::test]
async fn calls_that_come_together_open_one_connection() {
    let house = one_thread();
    let worker = Worker::grpc_echo(&house.socket("a"));
    house.publish_a();
    let channel = Arc::new(Channel::to(house.address).await);
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let channel = Arc::clone(&channel);
        calls.spawn(async move { ask(&channel).await });
    }
    all(calls).await;
    assert_eq!(worker.connections(), 1);
}

#[tokio::test]
async fn many_calls_at_once_share_one_connection() {
    let house = one_thread();
    let (worker, permits, mut asked) = patient(&house, 1000);
    let backend = house.publish_a();
    let channels = [
        Arc::new(Channel::to(house.address).await),
        Arc::new(Channel::to(house.address).await),
    ];
    // Learns how many the worker takes.
    permits.add_permits(1);
    assert_eq!(ask(&channels[0]).await.outcome(), ("0", ""));
    soon(asked.recv()).await.expect("asked");
    let mut calls = JoinSet::new();
    for number in 0..400 {
        let channel = Arc::clone(&channels[number % 2]);
        calls.spawn(async move { ask(&channel).await });
    }
    for _ in 0..400 {
        soon(asked.recv()).await.expect("asked");
    }
    assert_eq!(backend.in_flight(), 400);
    permits.add_permits(400);
    all(calls).await;
    assert_eq!(worker.connections(), 1);
    rest(&backend).await;
}

#[tokio::test]
async fn a_full_connection_gets_another_beside_it_and_the_number_of_them_is_bounded() {
    let house = one_thread();
    let (worker, permits, mut asked) = patient(&house, 2);
    house.publish_a();
    let channel = Arc::new(Channel::to(house.address).await);
    let mut calls = JoinSet::new();
    // One by one, so that what a worker takes is known before the next call.
    for _ in 0..16 {
        let channel = Arc::clone(&channel);
        calls.spawn(async move { ask(&channel).await });
        soon(asked.recv()).await.expect("asked");
    }
    assert_eq!(worker.connections(), 8);
    let refused = ask(&channel).await;
    assert_eq!(
        refused.refusal(),
        ("8", "Too many calls in flight; try again later")
    );
    permits.add_permits(16);
    all(calls).await;
}

#[tokio::test]
async fn a_connection_that_is_gone_is_replaced() {
    let house = one_thread();
    let (closed, mut was_closed) = mpsc::unbounded_channel();
    // Answers one call on each connection, and says goodbye or just leaves.
    let worker = Worker::raw(&house.socket("a"), move |stream| {
        let closed = closed.clone();
        async move {
            let mut connection = server::handshake(stream).await.expect("a handshake");
            let call = connection.accept().await.expect("a call").expect("a call");
            let (_request, mut respond) = call;
            let mut answer = respond.send_response(head(), false).expect("a head");
            answer.send_trailers(well()).expect("an end");
            drop((answer, respond, _request));
            connection.graceful_shutdown();
            while let Some(Ok(_)) = connection.accept().await {}
            drop(connection);
            closed.send(()).expect("the test waits");
        }
    });
    house.publish_a();
    let channel = Channel::to(house.address).await;
    for _ in 0..20 {
        assert_eq!(ask(&channel).await.outcome(), ("0", ""));
        soon(was_closed.recv()).await.expect("closed");
    }
    assert_eq!(worker.connections(), 20);
}

#[tokio::test]
async fn calls_in_flight_outlive_the_route_to_their_replica() {
    let house = one_thread();
    let (_worker, permits, mut asked) = patient(&house, 100);
    let old = house.publish_a();
    let channel = Arc::new(Channel::to(house.address).await);
    let mut calls = JoinSet::new();
    let first = Arc::clone(&channel);
    calls.spawn(async move { ask(&first).await });
    soon(asked.recv()).await.expect("asked");
    let _successor = Worker::grpc_echo(&house.socket("b"));
    let new = house.backend("a", house.socket("b"));
    house.publish([("a", ready(&new))]);
    let answered = ask(&channel).await;
    assert_eq!((answered.outcome(), &*answered.body), (("0", ""), "x"));
    assert_eq!(old.in_flight(), 1);
    permits.add_permits(1);
    all(calls).await;
    rest(&old).await;
}

#[tokio::test]
async fn a_connection_to_a_replica_that_was_withdrawn_is_closed_within_moments() {
    let house = one_thread();
    let (closed, mut was_closed) = mpsc::unbounded_channel();
    let _worker = Worker::raw(&house.socket("a"), move |stream| {
        let closed = closed.clone();
        async move {
            let mut connection = server::handshake(stream).await.expect("a handshake");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut answer = respond.send_response(head(), false).expect("a head");
                answer.send_trailers(well()).expect("an end");
            }
            closed.send(()).expect("the test waits");
        }
    });
    house.publish_a();
    let channel = Channel::to(house.address).await;
    assert_eq!(ask(&channel).await.outcome(), ("0", ""));
    house.publish([("a", Route::Down)]);
    soon(was_closed.recv()).await.expect("closed");
}
