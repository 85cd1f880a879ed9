//! Another process takes over the listening socket, and no caller notices more than a new connection.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Response;
use par_gateway::{Callers, Config};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::channel::{Channel, grpc, hear};
use crate::house::House;
use crate::wire::{Wire, soon};
use crate::worker::{Worker, full};

/// Two gateways on one socket, as two processes have it; the second one is yet to come.
fn house_and_socket(config: Config) -> (House, TcpListener) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let shared = socket.try_clone().expect("another handle");
    (House::on(socket, config, nobody()), shared)
}

fn nobody() -> Callers {
    Arc::new(|_| None)
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps its connection as long as it may; how many calls were answered.
async fn call_until(stop: Arc<AtomicBool>, done: Arc<AtomicUsize>, address: SocketAddr) {
    let mut wire = Wire::to(address).await;
    while !stop.load(Ordering::SeqCst) {
        wire.send("GET /agents/a/x HTTP/1.1\r\nhost: g\r\n\r\n")
            .await;
        let answer = wire.answer().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        done.fetch_add(1, Ordering::SeqCst);
        if answer.contains("connection: close\r\n") {
            wire = Wire::to(address).await;
        }
    }
}

async fn more(done: &AtomicUsize, count: usize) {
    let enough = done.load(Ordering::SeqCst) + count;
    soon(async {
        while done.load(Ordering::SeqCst) < enough {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_takeover_under_load_loses_no_call() {
    let (mut old, mut socket) = house_and_socket(Config::default());
    let address = old.address;
    let mut workers = vec![Worker::named(&old.socket("a"), "old")];
    old.publish_a();
    let (stop, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        callers.spawn(call_until(Arc::clone(&stop), Arc::clone(&done), address));
    }
    more(&done, 200).await;
    for _ in 0..3 {
        let shared = socket.try_clone().expect("another handle");
        let new = House::on(socket, Config::default(), nobody());
        socket = shared;
        workers.push(Worker::named(&new.socket("a"), "new"));
        new.publish_a();
        let House { gateway, .. } = std::mem::replace(&mut old, new);
        soon(gateway.retire(PATIENCE)).await;
        more(&done, 200).await;
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(caller) = soon(callers.join_next()).await {
        caller.expect("every call was answered");
    }
}

#[tokio::test]
async fn open_streams_go_on_and_their_callers_go_to_the_next_one_for_more() {
    let (old, socket) = house_and_socket(Config::default());
    let address = old.address;
    let _worker = Worker::grpc_echo(&old.socket("a"));
    old.publish_a();
    let channel = Channel::to(address).await;
    let mut calls = Vec::new();
    for _ in 0..100 {
        let mut call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
        call.say("before ");
        calls.push(call);
    }
    let mut open = Vec::new();
    for call in calls {
        let (response, sending) = call.head().await;
        let mut body = response.into_body();
        assert_eq!(hear(&mut body).await.as_deref(), Some("before "));
        open.push((body, sending));
    }
    let new = House::on(socket, Config::default(), nobody());
    let _new_worker = Worker::grpc_echo(&new.socket("a"));
    new.publish_a();
    let retired = tokio::spawn(old.gateway.retire(PATIENCE));
    let next = Channel::to(address).await;
    let answered = next.ask(grpc("/agents/a/p.S/M", &[]), "new").await;
    assert_eq!((answered.outcome().0, &*answered.body), ("0", "new"));
    for (mut body, mut sending) in open {
        sending.send_data("after".into(), true).expect("sent");
        assert_eq!(hear(&mut body).await.as_deref(), Some("after"));
        assert_eq!(hear(&mut body).await, None);
        let trailers = soon(body.trailers())
            .await
            .expect("an end")
            .expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
    }
    soon(retired).await.expect("ended");
}

#[tokio::test]
async fn a_call_that_was_begun_is_finished_and_its_connection_is_not_used_again() {
    let (old, _socket) = house_and_socket(Config {
        threads: 1,
        ..Config::default()
    });
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let _worker = Worker::http(&old.socket("a"), move |_| {
        let (gate, asked) = (Arc::clone(&gate), asked.clone());
        async move {
            asked.send(()).expect("the test waits");
            gate.acquire().await.expect("open").forget();
            Response::new(full("late"))
        }
    });
    old.publish_a();
    let mut wire = Wire::to(old.address).await;
    wire.send("GET /agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n")
        .await;
    soon(was_asked.recv()).await.expect("asked");
    let told = Channel::to(old.address).await;
    let retired = tokio::spawn(old.gateway.retire(PATIENCE));
    // All connections of a thread are told at one time; this one shows it.
    soon(told.connection).await.expect("it ends").expect("well");
    opened.add_permits(1);
    let answer = wire.read_to_end().await;
    assert!(answer.ends_with("late"), "{answer}");
    soon(retired).await.expect("ended");
}

#[tokio::test]
async fn a_silent_connection_may_ask_once_more_and_is_closed_after_its_usual_time() {
    let (old, _socket) = house_and_socket(Config {
        header_timeout: Duration::from_millis(300),
        ..Config::default()
    });
    let _worker = Worker::named(&old.socket("a"), "old");
    old.publish_a();
    let request = "GET /agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n";
    let mut speaks = Wire::to(old.address).await;
    speaks.send(request).await;
    assert!(speaks.answer().await.ends_with("old"));
    let mut silent = Wire::to(old.address).await;
    silent.send(request).await;
    assert!(silent.answer().await.ends_with("old"));
    let retired = tokio::spawn(old.gateway.retire(PATIENCE));
    speaks.send(request).await;
    assert!(speaks.read_to_end().await.ends_with("old"));
    assert_eq!(silent.read_to_end().await, "");
    soon(retired).await.expect("ended");
}

#[tokio::test]
async fn whoever_does_not_leave_is_cut_off_in_the_end() {
    let (old, _socket) = house_and_socket(Config::default());
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let _worker = Worker::http(&old.socket("a"), move |_| {
        asked.send(()).expect("the test waits");
        std::future::pending()
    });
    old.publish_a();
    let mut idle = Wire::to(old.address).await;
    let mut wire = Wire::to(old.address).await;
    wire.send("GET /agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n")
        .await;
    soon(was_asked.recv()).await.expect("asked");
    soon(old.gateway.retire(Duration::from_millis(50))).await;
    assert_eq!(idle.read_to_end().await, "");
    assert_eq!(wire.read_to_end().await, "");
}
