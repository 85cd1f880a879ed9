//! Bodies are passed on as they come, no faster than they are taken, and their ends are told apart.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::house::{House, rest};
use crate::wire::{Wire, soon};
use crate::worker::{AnyBody, Worker, full, read_head};

const MIB: usize = 1 << 20;
const MUCH: usize = 64 * MIB;

/// What lies between two ends that do not read: buffers of the kernel and of both sides' HTTP.
const UNDERWAY: usize = 16 * MIB;

/// Pieces that the test hands out one by one.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// As many bytes as asked for, counted when they are taken.
struct Much {
    left: usize,
    taken: Arc<AtomicUsize>,
}

impl Body for Much {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 64 << 10] = [7; 64 << 10];
        let count = self.left.min(PIECE.len());
        self.left -= count;
        self.taken.fetch_add(count, Ordering::SeqCst);
        Poll::Ready((count > 0).then(|| Ok(Frame::data(Bytes::from_static(&PIECE[..count])))))
    }
}

/// For workers that are called once.
fn only<T>(kept: &Mutex<Option<T>>) -> T {
    kept.lock().expect("not poisoned").take().expect("one call")
}

/// Waits until a counter stands still, and says where.
pub(crate) async fn settled(counter: &AtomicUsize) -> usize {
    soon(async {
        loop {
            let before = counter.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(200)).await;
            if before > 0 && counter.load(Ordering::SeqCst) == before {
                return before;
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_event_is_seen_while_the_stream_goes_on() {
    let house = House::new();
    let (events, pieces) = mpsc::channel(1);
    let pieces = Arc::new(Mutex::new(Some(pieces)));
    let _worker = Worker::http(&house.socket("a"), move |_| {
        let pieces = pieces
            .lock()
            .expect("not poisoned")
            .take()
            .expect("one call");
        async move { Response::new(Pieces(pieces).boxed_unsync()) }
    });
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /agents/a/events HTTP/1.1\r\nhost: g\r\n\r\n")
        .await;
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        events.send(Bytes::from(event)).await.expect("taken");
        wire.read_until(event).await;
    }
    drop(events);
    wire.read_until("0\r\n\r\n").await;
}

#[tokio::test]
async fn an_upload_reaches_the_agent_while_it_goes_on() {
    let house = House::new();
    let (seen, mut was_seen) = mpsc::unbounded_channel();
    let _worker = Worker::http(&house.socket("a"), move |mut request| {
        let seen = seen.clone();
        async move {
            while let Some(Ok(frame)) = request.body_mut().frame().await {
                seen.send(frame.into_data().expect("data"))
                    .expect("the test waits");
            }
            Response::new(full("done"))
        }
    });
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send("POST /agents/a/ HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..3 {
        wire.send("3\r\nabc\r\n").await;
        assert_eq!(soon(was_seen.recv()).await.expect("a piece"), "abc");
    }
    wire.send("0\r\n\r\n").await;
    assert!(wire.answer().await.ends_with("done"));
}

#[tokio::test]
async fn an_answer_that_comes_before_the_upload_is_over_is_passed_on() {
    let house = House::new();
    let _worker = Worker::raw(&house.socket("a"), |mut stream| async move {
        let mut upload = Vec::new();
        while !upload.ends_with(b"\r\n\r\nabc") {
            stream.read_buf(&mut upload).await.expect("a request");
        }
        let answer = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nbig";
        stream.write_all(answer).await.expect("sent");
        // Until the gateway gives up the upload.
        drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
    });
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send("POST /agents/a/ HTTP/1.1\r\nhost: g\r\ncontent-length: 1000000\r\n\r\nabc")
        .await;
    let answer = wire.answer().await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.ends_with("big"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_slow_reader_stalls_the_agent_and_then_gets_every_byte() {
    let house = House::new();
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let _worker = Worker::http(&house.socket("a"), move |_| {
        let taken = Arc::clone(&counter);
        async move { Response::new(Much { left: MUCH, taken }.boxed_unsync()) }
    });
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /agents/a/ HTTP/1.0\r\nhost: g\r\n\r\n")
        .await;
    let underway = settled(&taken).await;
    assert!(
        underway < UNDERWAY,
        "{underway} bytes were taken from the agent"
    );
    wire.read_until("\r\n\r\n").await;
    let body = wire.read_exactly(MUCH).await;
    assert!(body.iter().all(|byte| *byte == 7));
    assert_eq!(wire.read_to_end().await, "");
}

#[tokio::test]
async fn a_slow_agent_stalls_the_caller_and_then_gets_every_byte() {
    let house = House::new();
    let (go, gone) = oneshot::channel::<()>();
    let gone = Arc::new(Mutex::new(Some(gone)));
    let _worker = Worker::http(&house.socket("a"), move |mut request| {
        let gone = only(&gone);
        async move {
            gone.await.expect("a word");
            let mut total = 0;
            while let Some(Ok(frame)) = request.body_mut().frame().await {
                total += frame.data_ref().map_or(0, Bytes::len);
            }
            Response::new(full(total.to_string()))
        }
    });
    house.publish_a();
    let wire = Wire::to(house.address).await;
    let (mut reading, mut writing) = wire.stream.into_split();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let upload = tokio::spawn(async move {
        let head = format!(
            "POST /agents/a/ HTTP/1.1\r\nhost: g\r\nconnection: close\r\ncontent-length: {MUCH}\r\n\r\n"
        );
        writing.write_all(head.as_bytes()).await.expect("sent");
        for _ in 0..MUCH / (64 << 10) {
            writing.write_all(&[7; 64 << 10]).await.expect("sent");
            counter.fetch_add(64 << 10, Ordering::SeqCst);
        }
        writing
    });
    let underway = settled(&sent).await;
    assert!(
        underway < UNDERWAY,
        "{underway} bytes were taken from the caller"
    );
    go.send(()).expect("the agent waits");
    let _writing = soon(upload).await.expect("sent");
    let mut answer = String::new();
    soon(reading.read_to_string(&mut answer))
        .await
        .expect("an answer");
    assert!(answer.ends_with(&format!("\r\n\r\n{MUCH}")), "{answer}");
}

/// Tells when it is dropped, which is when the agent's side is over.
struct Tell(Option<oneshot::Sender<()>>);

impl Drop for Tell {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell.send(()).unwrap_or_default(); // the test may be over
        }
    }
}

fn telling_worker(
    house: &House,
    head_first: bool,
) -> (Worker, mpsc::UnboundedReceiver<oneshot::Receiver<()>>) {
    let (asked, was_asked) = mpsc::unbounded_channel();
    let worker = Worker::http(&house.socket("a"), move |_| {
        let (tell, told) = oneshot::channel();
        asked.send(told).expect("the test waits");
        async move {
            let tell = Tell(Some(tell));
            if !head_first {
                std::future::pending::<()>().await;
            }
            let (sender, pieces) = mpsc::channel(1);
            sender.send(Bytes::from("first")).await.expect("room");
            let body = Pieces(pieces).map_frame(move |frame| {
                // Kept, and with them the stream open, as long as the body is.
                let _kept = (&tell, &sender);
                frame
            });
            Response::new(body.boxed_unsync())
        }
    });
    (worker, was_asked)
}

#[tokio::test]
async fn the_agent_learns_that_its_caller_left_before_the_answer() {
    let house = House::new();
    let (_worker, mut asked) = telling_worker(&house, false);
    let backend = house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n")
        .await;
    let over = soon(asked.recv()).await.expect("asked");
    drop(wire);
    soon(over).await.expect("the agent's side is over");
    rest(&backend).await;
}

#[tokio::test]
async fn the_agent_learns_that_its_caller_left_during_the_answer() {
    let house = House::new();
    let (_worker, mut asked) = telling_worker(&house, true);
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n")
        .await;
    let over = soon(asked.recv()).await.expect("asked");
    wire.read_until("first").await;
    drop(wire);
    soon(over).await.expect("the agent's side is over");
}

#[tokio::test]
async fn the_agent_learns_that_an_upload_broke_off() {
    let house = House::new();
    let (seen, mut was_seen) = mpsc::unbounded_channel();
    let _worker = Worker::http(&house.socket("a"), move |request| {
        let seen = seen.clone();
        async move {
            seen.send(request.into_body().collect().await.is_err())
                .expect("the test waits");
            Response::new(Empty::new().boxed_unsync() as AnyBody)
        }
    });
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send(
        "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    )
    .await;
    drop(wire);
    assert!(
        soon(was_seen.recv()).await.expect("seen"),
        "half an upload is no upload"
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_ends_cleanly() {
    let house = House::new();
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let socket = house.socket("a");
        let (leave, may_leave) = oneshot::channel::<()>();
        let may_leave = Arc::new(Mutex::new(Some(may_leave)));
        let _worker = Worker::raw(&socket, move |mut stream| {
            let may_leave = only(&may_leave);
            async move {
                read_head(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.expect("sent");
                may_leave.await.expect("a word");
            }
        });
        house.publish_a();
        let mut wire = Wire::to(house.address).await;
        wire.send("GET /agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n")
            .await;
        wire.read_until("half").await;
        leave.send(()).expect("the worker waits");
        assert!(!wire.read_to_end().await.ends_with("0\r\n\r\n"));
        std::fs::remove_file(socket).expect("removed");
    }
}
