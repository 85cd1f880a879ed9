//! What one caller may have, and what all callers of one agent may have together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use par_door::{Quota, Rate};
use par_gateway::Config;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use crate::channel::{Channel, grpc};
use crate::house::House;
use crate::wire::{LONG, Wire, get, soon};
use crate::worker::{Worker, full};

const CALL: &str = "GET /agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n";

/// A worker that says when a call has come, and answers when it may.
fn patient(house: &House) -> (Worker, Arc<Semaphore>, mpsc::UnboundedReceiver<()>) {
    let (came, arrivals) = mpsc::unbounded_channel();
    let answers = Arc::new(Semaphore::new(0));
    let may = Arc::clone(&answers);
    let worker = Worker::http(&house.socket("a"), move |_| {
        came.send(()).expect("the test waits");
        let may = Arc::clone(&may);
        async move {
            may.acquire().await.expect("open").forget();
            Response::new(full("well"))
        }
    });
    house.publish_a();
    (worker, answers, arrivals)
}

/// As somebody else: loopback has many addresses.
async fn from(local: &str, to: SocketAddr) -> Wire<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    let local: SocketAddr = format!("{local}:0").parse().expect("an address");
    socket.bind(local).expect("an address of loopback");
    Wire::over(soon(socket.connect(to)).await.expect("a connection"))
}

#[tokio::test]
async fn a_caller_with_too_many_calls_is_told_so_and_others_are_not() {
    let house = House::with(Config {
        per_caller: Quota {
            calls: 2,
            rate: None,
        },
        ..Config::default()
    });
    let (_worker, answers, mut arrivals) = patient(&house);
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::to(house.address).await;
        wire.send(CALL).await;
        soon(arrivals.recv()).await.expect("a call");
        busy.push(wire);
    }
    let mut third = Wire::to(house.address).await;
    third.send(CALL).await;
    let refused = third.answer().await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(refused.contains("2 calls in flight"), "{refused}");
    // Also for what is no agent's.
    let refused = get(house.address, "/supervisor/status").await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    let mut other = from("127.0.0.2", house.address).await;
    other.send(CALL).await;
    soon(arrivals.recv())
        .await
        .expect("the call of somebody else");
    answers.add_permits(4);
    for wire in busy.iter_mut().chain([&mut other]) {
        assert!(wire.answer().await.starts_with("HTTP/1.1 200"));
    }
    // The same connection, when there is room again.
    third.send(CALL).await;
    let answer = third.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_caller_that_calls_too_often_is_told_when_to_come_back() {
    let house = House::with(Config {
        per_caller: Quota {
            calls: 0,
            rate: Rate::new(1, 2),
        },
        ..Config::default()
    });
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let mut wire = Wire::to(house.address).await;
    for _ in 0..2 {
        wire.send(CALL).await;
        assert!(wire.answer().await.starts_with("HTTP/1.1 200"));
    }
    wire.send(CALL).await;
    let refused = wire.answer().await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    let answered = channel.ask(grpc("/agents/a/p.S/M", &[]), "x").await;
    let (code, message) = answered.refusal();
    assert_eq!(code, "8", "{message}");
    let come_back = async {
        loop {
            wire.send(CALL).await;
            if wire.answer().await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    soon(come_back).await;
}

#[tokio::test]
async fn an_agent_that_is_called_too_much_refuses_whoever_comes_next() {
    let house = House::with(Config {
        per_agent: Quota {
            calls: 1,
            rate: None,
        },
        ..Config::default()
    });
    let (_worker, answers, mut arrivals) = patient(&house);
    let mut first = Wire::to(house.address).await;
    first.send(CALL).await;
    soon(arrivals.recv()).await.expect("a call");
    let mut other = from("127.0.0.2", house.address).await;
    other.send(CALL).await;
    let refused = other.answer().await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    let channel = Channel::to(house.address).await;
    let answered = channel.ask(grpc("/agents/a/p.S/M", &[]), "x").await;
    assert_eq!(answered.refusal().0, "14");
    // Not for the runtime's own answers.
    let control = get(house.address, "/supervisor/status").await;
    assert!(control.starts_with("HTTP/1.1 200"), "{control}");
    answers.add_permits(2);
    assert!(first.answer().await.starts_with("HTTP/1.1 200"));
    other.send(CALL).await;
    assert!(other.answer().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn one_address_takes_only_so_many_connections() {
    let house = House::with(Config {
        max_connections_per_address: 2,
        ..Config::default()
    });
    let inside = [Wire::to(house.address).await, Wire::to(house.address).await];
    let refused = Wire::to(house.address).await.read_to_end().await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    let mut other = from("127.0.0.2", house.address).await;
    other.send("GET /x HTTP/1.1\r\nhost: g\r\n\r\n").await;
    assert!(other.answer().await.starts_with("HTTP/1.1 200"));
    drop(inside);
    soon(async { while !get(house.address, "/x").await.contains("200 OK") {} }).await;
}

#[tokio::test]
async fn what_is_left_of_a_refused_upload_is_no_next_request() {
    let house = House::with(Config {
        per_caller: Quota {
            calls: 0,
            rate: Rate::new(1, 1),
        },
        ..Config::default()
    });
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /x HTTP/1.1\r\nhost: g\r\n\r\n").await;
    wire.answer().await;
    wire.send("POST /x HTTP/1.1\r\nhost: g\r\ncontent-length: 37\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: g\r\n\r\nxyz")
        .await;
    let refused = wire.answer().await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    wire.send("GET /x HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n")
        .await;
    let rest = wire.read_to_end().await;
    assert!(!rest.contains("smuggled"), "{rest}");
}

#[tokio::test]
async fn a_caller_that_takes_nothing_of_its_answer_is_cut() {
    let house = House::with(Config {
        threads: 1,
        stall_timeout: Duration::from_millis(200),
        ..Config::default()
    });
    // More than all windows and buffers on the way.
    let _worker = Worker::http(&house.socket("a"), |_| async {
        Response::new(full("x".repeat(32 << 20)))
    });
    let backend = house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send(CALL).await;
    wire.read_until("\r\n\r\n").await;
    // Its window stays closed: h2 gives back what was read only when told to.
    let channel = Channel::to(house.address).await;
    let call = Request::get(format!("http://{}/agents/a/", house.address));
    let mut call = channel.begin(call.body(()).expect("a request")).await;
    call.end();
    let (response, _sending) = call.head().await;
    crate::house::rest(&backend).await;
    let broken = tokio::time::timeout(LONG, channel.connection).await;
    assert!(broken.is_ok(), "the connection is over");
    drop(response);
}

#[tokio::test]
async fn an_upload_that_drips_is_given_up_and_one_that_flows_is_not() {
    let slack = Duration::from_millis(100);
    let house = House::with(Config {
        answer_slack: slack,
        slowest_upload: 1000,
        ..Config::default()
    });
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let head = "POST /agents/a/ HTTP/1.1\r\nhost: g\r\nx-request-timeout: 0.001\r\ncontent-length: 10000\r\n\r\n";
    for (piece, ends_with) in [(1, "504"), (1000, "200")] {
        let mut wire = Wire::to(house.address).await;
        wire.send(head).await;
        let (mut reading, mut writing) = tokio::io::split(wire.stream);
        let dripping = async {
            let mut left = 10_000;
            while left > 0 {
                let bytes = vec![b'x'; piece.min(left)];
                if tokio::io::AsyncWriteExt::write_all(&mut writing, &bytes)
                    .await
                    .is_err()
                {
                    return;
                }
                left -= bytes.len();
                tokio::time::sleep(slack / 2).await;
            }
        };
        let mut answer = [0; 12];
        let reading = tokio::io::AsyncReadExt::read_exact(&mut reading, &mut answer);
        // Whoever has its answer stops to send.
        let reading = async {
            tokio::pin!(dripping, reading);
            tokio::select! {
                read = &mut reading => read,
                () = &mut dripping => reading.await,
            }
        };
        soon(reading).await.expect("an answer");
        let status = String::from_utf8_lossy(&answer[9..]).into_owned();
        assert_eq!(status, ends_with);
    }
}
