//! Callers that speak HTTP/2: told by their first bytes, served as over HTTP/1, and asked to leave in its own way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::ext::Protocol;
use http::{Method, Request};
use par_gateway::Config;
use tokio::sync::{Semaphore, mpsc};

use crate::channel::{Answered, Channel, MOMENT, grpc, head, hear, well};
use crate::house::House;
use crate::wire::{Wire, ask, get, soon};
use crate::worker::Worker;

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn get2(channel: &Channel, path: &str) -> Answered {
    let request = Request::get(format!("http://gate{path}"));
    channel.ask(request.body(()).expect("a request"), "").await
}

#[tokio::test]
async fn what_is_no_grpc_is_answered_as_over_http_1() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let control = get2(&channel, "/status").await;
    assert_eq!(control.status, 200);
    assert!(control.body.contains("/status for public"), "{control:?}");
    let unknown = get2(&channel, "/agents/ghost/x").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.headers["content-type"], "application/json");
    assert_eq!(unknown.body, r#"{"detail":"Agent ghost not found"}"#);
    let request = Request::post("http://gate/agents/a/x%2Fy?q=1")
        .header("content-type", "application/grpc-web")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-par-caller", "somebody");
    let request = request.body(()).expect("a request");
    let answered = channel.ask(request, "words").await;
    for seen in [
        "POST /x%2Fy?q=1\n",
        "host=gate\n",
        "cookie=a=1; b=2\n",
        "x-forwarded-for=127.0.0.1\n",
        "x-forwarded-host=gate\n",
        "body=words\n",
    ] {
        assert!(answered.body.contains(seen), "{seen}: {answered:?}");
    }
    assert!(!answered.body.contains("somebody"), "{answered:?}");
}

#[tokio::test]
async fn the_control_api_learns_which_agent_asks_over_http_2() {
    let house = House::new();
    let channel = Channel::through(&house.internal_door()).await;
    let control = get2(&channel, "/runtime/health").await;
    assert!(control.body.contains("/health for caller"), "{control:?}");
    let more = get2(&channel, "/status").await;
    assert!(more.body.contains("may call agents"), "{more:?}");
}

#[tokio::test]
async fn both_protocols_are_spoken_on_one_port() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let new = get2(&channel, "/agents/a/x").await;
    let old = get(house.address, "/agents/a/x").await;
    assert!(new.body.starts_with("GET /x\n"), "{new:?}");
    assert!(old.contains("\r\n\r\nGET /x\n"), "{old}");
}

#[tokio::test]
async fn what_only_begins_like_http_2_is_none() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    for piece in [
        "P",
        "OST /agents/a/x HTTP/1.1\r\nhost: g\r\n",
        "content-length: 1\r\n\r\nx",
    ] {
        wire.send(piece).await;
        tokio::task::yield_now().await;
    }
    assert!(wire.answer().await.contains("POST /x\n"));
    for almost in [
        "PRI * HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX",
    ] {
        let answer = ask(house.address, almost).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1"),
            "{answer}"
        );
    }
    // Half a preface, and the end.
    let mut wire = Wire::to(house.address).await;
    wire.send(&PREFACE[..20]).await;
    let closed = tokio::io::AsyncWriteExt::shutdown(&mut wire.stream).await;
    closed.expect("half closed");
    wire.read_to_end().await;
}

#[tokio::test]
async fn a_preface_may_come_byte_by_byte() {
    let house = House::new();
    let mut wire = Wire::to(house.address).await;
    for byte in PREFACE.bytes() {
        wire.send([byte]).await;
        tokio::task::yield_now().await;
    }
    let settings = wire.read_exactly(9).await;
    assert_eq!(settings[3], 4, "{settings:?}");
}

#[tokio::test]
async fn nobody_leaves_http_by_http_2() {
    let house = House::new();
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let request = Request::builder().method(Method::CONNECT).uri("gate:80");
    let request = request.body(()).expect("a request");
    let answered = channel.begin(request).await.whole().await;
    assert_eq!(answered.status, 405);
    let mut websocket = Request::builder()
        .method(Method::CONNECT)
        .uri("http://gate/agents/a/socket")
        .body(())
        .expect("a request");
    let protocol = Protocol::from_static("websocket");
    websocket.extensions_mut().insert(protocol);
    let channel = Channel::to(house.address).await;
    let call = channel.begin(websocket).await;
    soon(call.answer).await.expect_err("not agreed on");
}

#[tokio::test]
async fn an_upload_that_still_moves_is_not_given_up_and_one_that_does_not_is() {
    let house = House::with(Config {
        answer_slack: 2 * MOMENT,
        ..Config::default()
    });
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let request = || {
        let request = Request::post("http://gate/agents/a/x").header("x-request-timeout", "0.001");
        request.body(()).expect("a request")
    };
    let mut call = channel.begin(request()).await;
    for _ in 0..8 {
        tokio::time::sleep(MOMENT / 2).await;
        call.say("x");
    }
    call.end();
    let answered = call.whole().await;
    assert!(answered.body.contains("body=xxxxxxxx\n"), "{answered:?}");
    let mut call = channel.begin(request()).await;
    call.say("x");
    assert_eq!(call.whole().await.status, 504);
    // No time at all is too long to be waited for, or to be counted.
    let request = Request::post("http://gate/agents/a/x").header("x-request-timeout", "1e19");
    let request = request.body(()).expect("a request");
    assert_eq!(channel.ask(request, "x").await.status, 200);
}

#[tokio::test]
async fn silence_is_asked_to_leave() {
    let house = House::with(Config {
        header_timeout: MOMENT,
        ..Config::default()
    });
    for words in ["", "PRI", PREFACE] {
        let mut wire = Wire::to(house.address).await;
        wire.send(words).await;
        let all = soon(wire.read_rest()).await;
        assert_eq!(all.is_empty(), words != PREFACE, "{words:?}");
    }
    // One that knows how to leave is asked to, and does.
    let channel = Channel::to(house.address).await;
    assert_eq!(get2(&channel, "/x").await.status, 200);
    soon(channel.connection)
        .await
        .expect("no panic")
        .expect("a clean end");
}

#[tokio::test]
async fn a_connection_with_a_call_is_not_idle() {
    let house = House::with(Config {
        header_timeout: MOMENT,
        ..Config::default()
    });
    let _worker = Worker::grpc_echo(&house.socket("a"));
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    let (response, mut sending) = call.head().await;
    assert_eq!(get2(&channel, "/x").await.status, 200);
    tokio::time::sleep(5 * MOMENT).await;
    let mut body = response.into_body();
    sending.send_data("x".into(), true).expect("sent");
    assert_eq!(hear(&mut body).await.expect("an echo"), "x");
    drop((body, sending));
    soon(channel.connection)
        .await
        .expect("no panic")
        .expect("a clean end");
}

#[tokio::test]
async fn an_idle_connection_makes_room_and_a_busy_one_does_not() {
    let house = House::with(Config {
        threads: 1,
        max_connections: 2,
        answer_slack: MOMENT,
        ..Config::default()
    });
    let _worker = Worker::grpc_echo(&house.socket("a"));
    house.publish_a();
    let busy = Channel::to(house.address).await;
    let call = busy.begin(grpc("/agents/a/p.S/M", &[])).await;
    let (response, mut sending) = call.head().await;
    let idle = Channel::to(house.address).await;
    assert_eq!(get2(&idle, "/x").await.status, 200);
    soon(async {
        while !ask(house.address, "GET /x HTTP/1.0\r\n\r\n")
            .await
            .contains("200 OK")
        {}
    })
    .await;
    soon(idle.connection)
        .await
        .expect("no panic")
        .expect("a clean end");
    let mut body = response.into_body();
    sending.send_data("x".into(), true).expect("sent");
    assert_eq!(hear(&mut body).await.expect("an echo"), "x");
}

#[tokio::test]
async fn one_caller_has_only_so_many_calls_at_one_time() {
    let house = House::with(Config {
        max_concurrent_streams: 2,
        ..Config::default()
    });
    let _worker = Worker::grpc_echo(&house.socket("a"));
    let backend = house.publish_a();
    let channel = Channel::to(house.address).await;
    assert_eq!(get2(&channel, "/x").await.status, 200);
    let first = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    let second = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    let (first, second) = (first.head().await, second.head().await);
    let third = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    assert_eq!(backend.in_flight(), 2);
    drop(first);
    third.head().await;
    drop(second);
}

#[tokio::test]
async fn too_large_headers_are_refused_over_http_2() {
    let house = House::new();
    let _worker = Worker::grpc_mirror(&house.socket("a"));
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let (fine, large) = ("y".repeat(60_000), "y".repeat(70_000));
    let answered = channel
        .ask(grpc("/agents/a/p.S/M", &[("x", &fine)]), "x")
        .await;
    assert!(answered.body.contains(&fine));
    let call = channel
        .begin(grpc("/agents/a/p.S/M", &[("x", &large)]))
        .await;
    assert_eq!(call.whole().await.status, 431);
}

/// A worker that answers the rest when it is allowed to.
fn patient(house: &House) -> (Worker, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let allowed = Arc::clone(&permits);
    let worker = Worker::grpc(&house.socket("a"), move |_, mut respond| {
        let allowed = Arc::clone(&allowed);
        async move {
            let mut answer = respond.send_response(head(), false).expect("a head");
            allowed.acquire().await.expect("open").forget();
            answer.send_data("late".into(), false).expect("sent");
            answer.send_trailers(well()).expect("an end");
        }
    });
    (worker, permits)
}

#[tokio::test]
async fn calls_in_flight_are_finished_before_the_end() {
    let house = House::new();
    let (_worker, permits) = patient(&house);
    house.publish_a();
    let idle = Channel::to(house.address).await;
    assert_eq!(get2(&idle, "/x").await.status, 200);
    let channel = Channel::to(house.address).await;
    let call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    let (response, _sending) = call.head().await;
    let shutdown = tokio::spawn(house.gateway.shutdown(Duration::from_secs(60)));
    soon(idle.connection)
        .await
        .expect("no panic")
        .expect("a clean end");
    // Longer than a caller without a call is waited for.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    permits.add_permits(1);
    let mut body = response.into_body();
    assert_eq!(hear(&mut body).await.expect("the rest"), "late");
    assert_eq!(soon(body.trailers()).await.expect("an end"), Some(well()));
    drop((body, _sending));
    soon(shutdown).await.expect("ended");
}

#[tokio::test]
async fn a_stream_that_outlasts_the_grace_is_ended() {
    let house = House::new();
    let (_worker, _permits) = patient(&house);
    let backend = house.publish_a();
    let channel = Channel::to(house.address).await;
    let call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    let (response, _sending) = call.head().await;
    let begun = Instant::now();
    soon(house.gateway.shutdown(MOMENT)).await;
    assert!(begun.elapsed() >= MOMENT);
    assert_eq!(backend.in_flight(), 0);
    let next: Option<Result<Bytes, h2::Error>> = soon(response.into_body().data()).await;
    assert!(matches!(next, Some(Err(_))), "{next:?}");
}

#[tokio::test]
async fn a_caller_that_does_not_leave_does_not_hold_up_the_end() {
    let house = House::new();
    let mut wire = Wire::to(house.address).await;
    // An empty SETTINGS frame, and nothing more.
    wire.send([PREFACE.as_bytes(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat())
        .await;
    wire.read_exactly(9).await;
    let begun = Instant::now();
    soon(house.gateway.shutdown(Duration::from_secs(60))).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_own_connection_only() {
    let house = House::with(Config {
        threads: 1,
        ..Config::default()
    });
    let (seen, mut was_seen) = mpsc::unbounded_channel();
    let _worker = Worker::grpc(&house.socket("a"), move |_, mut respond| {
        let seen = seen.clone();
        async move {
            seen.send(()).expect("the test waits");
            let mut answer = respond.send_response(head(), false).expect("a head");
            answer.send_trailers(well()).expect("an end");
        }
    });
    let backend = house.publish_a();
    let other = Channel::to(house.address).await;
    let flood = Channel::to(house.address).await;
    for _ in 0..100 {
        let mut call = flood.begin(grpc("/agents/a/p.S/M", &[])).await;
        call.sending.send_reset(h2::Reason::CANCEL);
    }
    soon(flood.connection)
        .await
        .expect("no panic")
        .unwrap_or_default();
    let answered = other.ask(grpc("/agents/a/p.S/M", &[]), "x").await;
    assert_eq!(answered.outcome(), ("0", ""));
    soon(was_seen.recv()).await.expect("called");
    crate::house::rest(&backend).await;
}
