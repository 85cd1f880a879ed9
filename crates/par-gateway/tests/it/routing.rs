//! Which agent gets a call, and what is said when none does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use par_gateway::Route;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::house::{House, ready, rest};
use crate::wire::{Wire, get, soon};
use crate::worker::{Worker, full, read_head};

#[tokio::test]
async fn an_unknown_agent_is_named_as_it_was_asked_for() {
    let house = House::new();
    let long = "x".repeat(500);
    for (asked, shown) in [
        ("ghost", "ghost"),
        ("ghost/x?y", "ghost"),
        ("../x", ".."),
        ("A", "A"),
        ("a%2Fb/x", "a/b"),
        ("%00%0d%0A%22/x", r#"\\0\\r\\n\\\""#),
        ("%zz", "%zz"),
        ("%ff", "\u{fffd}"),
        (&long, &long[..80]),
    ] {
        let answer = get(house.address, &format!("/agents/{asked}")).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert!(
            answer.contains("content-type: application/json\r\n"),
            "{answer}"
        );
        let detail = format!(r#"{{"detail":"Agent {shown} not found"}}"#);
        assert!(answer.ends_with(&detail), "{asked}: {answer}");
    }
}

#[tokio::test]
async fn an_agent_that_is_down_is_unavailable_at_once() {
    let house = House::new();
    house.publish([("a", Route::Down)]);
    let answer = get(house.address, "/agents/a/x").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.ends_with(r#"{"detail":"Agent a unavailable"}"#),
        "{answer}"
    );
}

#[tokio::test]
async fn all_that_is_not_for_an_agent_is_the_control_apis() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    for path in [
        "/",
        "/agents",
        "/agents/",
        "/agents?x",
        "/agentsa/x",
        "/%61gents/a/x",
        "/supervisor/status",
    ] {
        let answer = get(house.address, path).await;
        assert!(
            answer.contains(&format!("control {path} for public")),
            "{path}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_the_worker_closed_meanwhile_is_not_used_again() {
    let house = House::new();
    let (closed, mut was_closed) = tokio::sync::mpsc::unbounded_channel();
    let worker = Worker::raw(&house.socket("a"), move |mut stream| {
        let closed = closed.clone();
        async move {
            let mut upload = Vec::new();
            while !upload.ends_with(b"\r\n\r\nhi") {
                stream.read_buf(&mut upload).await.expect("a request");
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .expect("sent");
            drop(stream);
            closed.send(()).expect("the test waits");
        }
    });
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    for _ in 0..20 {
        wire.send("POST /agents/a/x HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\n\r\nhi")
            .await;
        assert!(wire.answer().await.ends_with("ok"));
        soon(was_closed.recv()).await.expect("closed");
    }
    assert_eq!(worker.connections(), 20);
}

#[tokio::test]
async fn a_request_that_the_agent_may_have_seen_is_never_sent_twice() {
    let house = House::new();
    let worker = Worker::raw(&house.socket("a"), |mut stream| async move {
        read_head(&mut stream).await;
    });
    house.publish_a();
    let answer = get(house.address, "/agents/a/x").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains(r#"{"detail":"the agent ended"#), "{answer}");
    assert_eq!(worker.connections(), 1);
}

#[tokio::test]
async fn calls_in_flight_are_counted_until_they_are_over() {
    let house = House::new();
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let _worker = Worker::http(&house.socket("a"), move |_| {
        let (asked, gate) = (asked.clone(), Arc::clone(&gate));
        async move {
            asked.send(()).expect("the test waits");
            gate.acquire().await.expect("open").forget();
            http::Response::new(full("x"))
        }
    });
    let backend = house.publish_a();
    let calls: Vec<_> = (0..3)
        .map(|_| tokio::spawn(get(house.address, "/agents/a/x")))
        .collect();
    for _ in 0..3 {
        soon(was_asked.recv()).await.expect("asked");
    }
    assert_eq!(backend.in_flight(), 3);
    opened.add_permits(3);
    for call in calls {
        soon(call).await.expect("an answer");
    }
    rest(&backend).await;
}

/// Two agents whose workers end, and come back each on the socket of the other, while they are called.
#[tokio::test]
async fn no_call_reaches_another_agent_when_sockets_change_hands() {
    let house = House::new();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for name in ["a", "b", "a", "b"] {
        callers.spawn(call_until(
            Arc::clone(&stop),
            Arc::clone(&answered),
            house.address,
            name,
        ));
    }
    for round in 0..20 {
        let (a, b) = if round % 2 == 0 {
            ("one", "two")
        } else {
            ("two", "one")
        };
        let (a, b) = (house.socket(a), house.socket(b));
        let workers = [Worker::named(&a, "I am a"), Worker::named(&b, "I am b")];
        house.publish([
            ("a", ready(&house.backend("a", a.clone()))),
            ("b", ready(&house.backend("b", b.clone()))),
        ]);
        let enough = answered.load(Ordering::SeqCst) + 100;
        soon(async {
            while answered.load(Ordering::SeqCst) < enough {
                tokio::task::yield_now().await;
            }
        })
        .await;
        house.publish([("a", Route::Soon), ("b", Route::Soon)]);
        drop(workers);
        std::fs::remove_file(a).expect("removed");
        std::fs::remove_file(b).expect("removed");
    }
    stop.store(true, Ordering::SeqCst);
    house.publish([("a", Route::Down), ("b", Route::Down)]);
    while let Some(caller) = soon(callers.join_next()).await {
        caller.expect("every answer was the right agent's");
    }
}

async fn call_until(
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    address: std::net::SocketAddr,
    name: &'static str,
) {
    let mut wire = Wire::to(address).await;
    while !stop.load(Ordering::SeqCst) {
        wire.send(format!("GET /agents/{name}/x HTTP/1.1\r\nhost: g\r\n\r\n"))
            .await;
        let answer = wire.answer().await;
        if answer.starts_with("HTTP/1.1 200") {
            assert!(answer.ends_with(&format!("I am {name}")), "{answer}");
            answered.fetch_add(1, Ordering::SeqCst);
        }
    }
}
