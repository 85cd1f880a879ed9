//! Requests that could be read in two ways, or in none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;

use crate::house::House;
use crate::wire::{Wire, ask, soon};
use crate::worker::{Worker, full};

/// What follows every hostile head: a request that must never be seen as one.
const SMUGGLED: &str = "GET /agents/a/smuggled HTTP/1.1\r\nhost: g\r\n\r\n";

const HOSTILE_HEADS: &[&str] = &[
    // Two framings.
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\nabcd",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ncontent-length: 4, 4\r\n\r\nabcd",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ncontent-length: +4\r\n\r\nabcd",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ncontent-length: -1\r\n\r\n",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ncontent-length:\r\n\r\n",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ncontent-length: 99999999999999999999\r\n\r\n",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "POST /agents/a/ HTTP/1.0\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    // Lines that end in two ways.
    "GET /agents/a/ HTTP/1.1\nhost: g\r\n\r\n",
    "GET /agents/a/ HTTP/1.1\r\nhost: g\n\r\n",
    "GET /agents/a/ HTTP/1.1\r\nhost: g\r\n\n",
    "\nGET /agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n",
    "GET /agents/a/ HTTP/1.1\r\nhost: g\r\nx: a\rb\r\n\r\n",
    "GET /agents/a/ HTTP/1.1\r\nhost: g\r\nx: a\r\n b\r\n\r\n",
    // Names that are almost names.
    "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ncontent-length : 4\r\n\r\nabcd",
    "GET /agents/a/ HTTP/1.1\r\nhost: g\r\nno colon\r\n\r\n",
    "GET /agents/a/ HTTP/1.1\r\nhost: g\r\nx: \0\r\n\r\n",
    "GET /agents/a/ HTTP/1.1\r\n host: g\r\n\r\n",
    // No host, or two.
    "GET /agents/a/ HTTP/1.1\r\n\r\n",
    "GET /agents/a/ HTTP/1.1\r\nhost: g\r\nhost: g\r\n\r\n",
    "GET /agents/a/ HTTP/1.0\r\nhost: g\r\nhost: h\r\n\r\n",
    // No request line.
    "GET /agents/a/\r\nhost: g\r\n\r\n",
    "GET  /agents/a/  HTTP/1.1\r\nhost: g\r\n\r\n",
    "GET agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n",
];

fn counting_worker(house: &House) -> (Worker, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let worker = Worker::http(&house.socket("a"), move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Response::new(full("seen")) }
    });
    (worker, seen)
}

#[tokio::test]
async fn a_request_that_could_be_read_in_two_ways_is_refused_in_front() {
    let house = House::new();
    let (_worker, seen) = counting_worker(&house);
    house.publish_a();
    for head in HOSTILE_HEADS {
        let answer = ask(house.address, format!("{head}{SMUGGLED}")).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"),
            "{head:?}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{head:?}: {answer}");
        assert_eq!(seen.load(Ordering::SeqCst), 0, "{head:?}");
    }
}

#[tokio::test]
async fn the_same_requests_are_refused_when_they_come_byte_by_byte() {
    let house = House::new();
    let (_worker, seen) = counting_worker(&house);
    house.publish_a();
    for head in HOSTILE_HEADS {
        let mut wire = Wire::to(house.address).await;
        for byte in head.bytes() {
            use tokio::io::AsyncWriteExt;
            // The gateway may have answered already.
            if wire.stream.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let answer = wire.read_to_end().await;
        let refused = answer.is_empty()
            || answer.starts_with("HTTP/1.1 400")
            || answer.starts_with("HTTP/1.0 400");
        assert!(refused, "{head:?}: {answer}");
        assert_eq!(seen.load(Ordering::SeqCst), 0, "{head:?}");
    }
}

#[tokio::test]
async fn what_was_asked_before_an_ambiguous_request_is_answered() {
    let house = House::new();
    let (_worker, seen) = counting_worker(&house);
    house.publish_a();
    let good = "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ncontent-length: 3\r\n\r\nabc";
    let answer = ask(
        house.address,
        format!("{good}{}{SMUGGLED}", HOSTILE_HEADS[0]),
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("HTTP/1.1 400"),
        "{answer}"
    );
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_that_is_not_framed_is_refused_and_ends_the_connection() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    for body in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "11111111111111111\r\nabc",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nx: y\n\r\n",
    ] {
        let head = "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n";
        let at_once = ask(house.address, format!("{head}{body}{SMUGGLED}")).await;
        let mut wire = Wire::to(house.address).await;
        wire.send(head).await;
        wire.send(body).await;
        for answer in [at_once, wire.read_to_end().await] {
            assert!(
                answer.starts_with("HTTP/1.1 400") && answer.matches("HTTP/1.").count() == 1,
                "{body:?}: {answer}"
            );
            assert!(answer.contains(r#"{"detail":"#), "{body:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_refusal_says_why() {
    let house = House::new();
    for (request, reason) in [
        (
            "GET /x HTTP/1.1\r\nhost: a\n\r\n",
            "the request is not framed as HTTP",
        ),
        ("GET /x HTTP/1.1\r\n\r\n", "the Host header is missing"),
        (
            "GET /x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "more than one Host header",
        ),
    ] {
        let answer = ask(house.address, request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(
            answer.ends_with(&format!(r#"{{"detail":"{reason}"}}"#)),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn nobody_gets_a_tunnel_by_connect() {
    let house = House::new();
    let answer = ask(house.address, "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[tokio::test]
async fn what_follows_a_refused_change_of_protocol_is_never_read() {
    let house = House::new();
    let (_worker, seen) = counting_worker(&house);
    house.publish_a();
    let h2c = "GET /agents/a/ HTTP/1.1\r\nhost: g\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";
    let answer = soon(ask(house.address, format!("{h2c}{SMUGGLED}"))).await;
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}
