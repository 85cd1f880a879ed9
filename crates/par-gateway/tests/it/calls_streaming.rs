//! gRPC: messages pass while the call goes on, no faster than they are taken, and every end is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::{Reason, SendStream};
use par_gateway::Config;
use tokio::sync::{Semaphore, mpsc};

use crate::channel::{Channel, grpc, head, hear, left, left_early, well};
use crate::house::{House, rest};
use crate::streaming::settled;
use crate::wire::soon;
use crate::worker::Worker;

const MIB: usize = 1 << 20;
const MUCH: usize = 32 * MIB;

/// What lies between two ends that do not read: windows of both connections, and buffers of the kernel.
const UNDERWAY: usize = 4 * MIB;

#[tokio::test]
async fn messages_flow_both_ways_before_either_end_closes() {
    let house = House::new();
    let _worker = Worker::grpc_echo(&house.socket("a"));
    let backend = house.publish_a();
    let channel = Channel::to(house.address).await;
    let call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    let (response, mut sending) = call.head().await;
    let mut body = response.into_body();
    for words in ["one", "two", "three"] {
        sending.send_data(words.into(), false).expect("sent");
        assert_eq!(hear(&mut body).await.expect("an echo"), words);
    }
    assert_eq!(backend.in_flight(), 1);
    sending.send_data(Bytes::new(), true).expect("ended");
    assert_eq!(hear(&mut body).await, None);
    assert_eq!(soon(body.trailers()).await.expect("an end"), Some(well()));
    rest(&backend).await;
}

#[tokio::test]
async fn an_answer_streams_after_the_request_has_ended() {
    let house = House::new();
    let go_on = Arc::new(Semaphore::new(0));
    let may_go_on = Arc::clone(&go_on);
    let _worker = Worker::grpc(&house.socket("a"), move |_, mut respond| {
        let may_go_on = Arc::clone(&may_go_on);
        async move {
            let mut answer = respond.send_response(head(), false).expect("a head");
            for words in ["one", "two", "three"] {
                may_go_on.acquire().await.expect("open").forget();
                answer.send_data(words.into(), false).expect("sent");
            }
            answer.send_trailers(well()).expect("an end");
        }
    });
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let mut call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    call.end();
    let (response, _sending) = call.head().await;
    let mut body = response.into_body();
    for words in ["one", "two", "three"] {
        go_on.add_permits(1);
        assert_eq!(hear(&mut body).await.expect("a message"), words);
    }
    assert_eq!(hear(&mut body).await, None);
    assert_eq!(soon(body.trailers()).await.expect("an end"), Some(well()));
}

#[tokio::test]
async fn an_upload_reaches_the_agent_message_by_message() {
    let house = House::new();
    let (seen, mut was_seen) = mpsc::unbounded_channel();
    let _worker = Worker::grpc(&house.socket("a"), move |request, mut respond| {
        let seen = seen.clone();
        async move {
            let mut body = request.into_body();
            while let Some(piece) = hear(&mut body).await {
                seen.send(piece).expect("the test waits");
            }
            let mut answer = respond.send_response(head(), false).expect("a head");
            answer.send_trailers(well()).expect("an end");
        }
    });
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let mut call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    for words in ["one", "two", "three"] {
        call.say(words);
        assert_eq!(soon(was_seen.recv()).await.expect("a piece"), words);
    }
    call.end();
    assert_eq!(call.whole().await.outcome(), ("0", ""));
}

/// Tells why each of its calls was given up, before or during the answer.
fn abandoned(house: &House, answers: bool) -> (Worker, mpsc::UnboundedReceiver<Option<Reason>>) {
    let (told, reasons) = mpsc::unbounded_channel();
    let worker = Worker::grpc(&house.socket("a"), move |request, mut respond| {
        let told = told.clone();
        async move {
            let _body = request.into_body();
            told.send(None).expect("the test waits");
            let reason = if answers {
                let mut answer = respond.send_response(head(), false).expect("a head");
                left(&mut answer).await
            } else {
                left_early(&mut respond).await
            };
            told.send(Some(reason)).expect("the test waits");
        }
    });
    (worker, reasons)
}

#[tokio::test]
async fn the_agent_learns_that_its_caller_has_cancelled() {
    for answers in [false, true] {
        for upload_ended in [false, true] {
            let house = House::new();
            let (_worker, mut told) = abandoned(&house, answers);
            let backend = house.publish_a();
            let channel = Channel::to(house.address).await;
            let mut call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
            call.say("x");
            if upload_ended {
                call.end();
            }
            assert_eq!(soon(told.recv()).await.expect("called"), None);
            call.sending.send_reset(Reason::CANCEL);
            let reason = soon(told.recv()).await.expect("given up");
            assert_eq!(reason, Some(Reason::CANCEL));
            rest(&backend).await;
            assert!(!channel.connection.is_finished());
        }
    }
}

#[tokio::test]
async fn the_agent_learns_that_its_caller_is_gone() {
    for answers in [false, true] {
        let house = House::new();
        let (_worker, mut told) = abandoned(&house, answers);
        let backend = house.publish_a();
        let channel = Channel::to(house.address).await;
        let _call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
        assert_eq!(soon(told.recv()).await.expect("called"), None);
        channel.connection.abort();
        let reason = soon(told.recv()).await.expect("given up");
        assert_eq!(reason, Some(Reason::CANCEL));
        rest(&backend).await;
    }
}

#[tokio::test]
async fn half_an_upload_never_ends_as_a_whole_one() {
    for reason in [Reason::CANCEL, Reason::NO_ERROR] {
        let house = House::new();
        let (seen, mut was_seen) = mpsc::unbounded_channel();
        let _worker = Worker::grpc(&house.socket("a"), move |request, respond| {
            let seen = seen.clone();
            async move {
                let _open = respond;
                let mut body = request.into_body();
                hear(&mut body).await.expect("a piece");
                seen.send(None).expect("the test waits");
                let next = soon(body.data()).await;
                seen.send(Some(matches!(next, Some(Err(_)))))
                    .expect("the test waits");
            }
        });
        house.publish_a();
        let channel = Channel::to(house.address).await;
        let mut call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
        call.say("half");
        assert_eq!(soon(was_seen.recv()).await.expect("seen"), None);
        call.sending.send_reset(reason);
        let broken = soon(was_seen.recv()).await.expect("seen");
        assert_eq!(broken, Some(true), "{reason:?}");
    }
}

#[tokio::test]
async fn an_answer_may_end_before_the_upload_does() {
    let house = House::new();
    let _worker = Worker::grpc(&house.socket("a"), |request, mut respond| async move {
        let mut body = request.into_body();
        hear(&mut body).await.expect("a piece");
        let mut answer = respond.send_response(head(), false).expect("a head");
        answer.send_trailers(well()).expect("an end");
    });
    let backend = house.publish_a();
    let channel = Channel::to(house.address).await;
    let mut call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    call.say("enough");
    let (response, mut sending) = call.head().await;
    let mut body = response.into_body();
    assert_eq!(hear(&mut body).await, None);
    assert_eq!(soon(body.trailers()).await.expect("an end"), Some(well()));
    assert_eq!(left(&mut sending).await, Reason::NO_ERROR);
    rest(&backend).await;
}

#[tokio::test]
async fn a_worker_that_dies_is_told_to_the_caller_in_the_trailers() {
    let house = House::new();
    let (called, mut was_called) = mpsc::unbounded_channel();
    let worker = Worker::grpc(&house.socket("a"), move |_, mut respond| {
        let called = called.clone();
        async move {
            let mut answer = respond.send_response(head(), false).expect("a head");
            answer.send_data("first".into(), false).expect("sent");
            called.send(()).expect("the test waits");
            std::future::pending().await
        }
    });
    let backend = house.publish_a();
    let channel = Channel::to(house.address).await;
    let call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    let (response, _sending) = call.head().await;
    let mut body = response.into_body();
    assert_eq!(hear(&mut body).await.expect("a message"), "first");
    drop(worker);
    assert_eq!(hear(&mut body).await, None);
    let trailers = soon(body.trailers()).await.expect("an end");
    let trailers = trailers.expect("trailers");
    assert_eq!(trailers["grpc-status"], "14");
    assert_eq!(
        trailers["grpc-message"],
        "the agent ended while it answered: its connection closed during the answer"
    );
    soon(was_called.recv()).await.expect("called");
    rest(&backend).await;
}

#[tokio::test]
async fn a_worker_that_dies_before_its_answer_makes_the_agent_unavailable() {
    let house = House::new();
    let worker = Worker::raw(&house.socket("a"), |stream| async move {
        let mut connection = h2::server::handshake(stream).await.expect("a handshake");
        connection.accept().await.expect("a call").expect("a call");
    });
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let answered = channel.ask(grpc("/agents/a/p.S/M", &[]), "x").await;
    let (code, message) = answered.refusal();
    assert_eq!(code, "14");
    assert!(message.starts_with("the agent ended"), "{message}");
    assert_eq!(worker.connections(), 1, "nothing is sent twice");
}

#[tokio::test]
async fn a_reset_by_the_agent_keeps_its_reason() {
    let house = House::new();
    let go = Arc::new(Semaphore::new(0));
    let gone = Arc::clone(&go);
    let _worker = Worker::grpc(&house.socket("a"), move |_, mut respond| {
        let gone = Arc::clone(&gone);
        async move {
            let mut answer = respond.send_response(head(), false).expect("a head");
            answer.send_data("first".into(), false).expect("sent");
            gone.acquire().await.expect("open").forget();
            answer.send_reset(Reason::ENHANCE_YOUR_CALM);
        }
    });
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    let (response, _sending) = call.head().await;
    let mut body = response.into_body();
    assert_eq!(hear(&mut body).await.expect("a message"), "first");
    go.add_permits(1);
    let broken = soon(body.data())
        .await
        .expect("no end")
        .expect_err("a reset");
    assert_eq!(broken.reason(), Some(Reason::ENHANCE_YOUR_CALM));
}

/// Sends much, as fast as the other end takes it.
async fn pour(mut to: SendStream<Bytes>, sent: &AtomicUsize) -> SendStream<Bytes> {
    let piece = Bytes::from_static(&[b'7'; 16 << 10]);
    for _ in 0..MUCH / piece.len() {
        to.reserve_capacity(piece.len());
        while to.capacity() < piece.len() {
            let more = std::future::poll_fn(|cx| to.poll_capacity(cx)).await;
            more.expect("open").expect("open");
        }
        to.send_data(piece.clone(), false).expect("sent");
        sent.fetch_add(piece.len(), Ordering::SeqCst);
    }
    to
}

#[tokio::test]
async fn a_caller_that_does_not_read_stalls_the_agent_and_nobody_else() {
    let house = House::with(Config {
        threads: 1,
        ..Config::default()
    });
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let worker = Worker::grpc(&house.socket("a"), move |request, mut respond| {
        let counter = Arc::clone(&counter);
        async move {
            let mut answer = respond.send_response(head(), false).expect("a head");
            if request.uri().path() == "/p.S/Much" {
                answer = pour(answer, &counter).await;
            }
            answer.send_data("done".into(), false).expect("sent");
            answer.send_trailers(well()).expect("an end");
        }
    });
    house.publish_a();
    let slow = Channel::to(house.address).await;
    let mut call = slow.begin(grpc("/agents/a/p.S/Much", &[])).await;
    call.end();
    let (response, _sending) = call.head().await;
    let underway = settled(&sent).await;
    assert!(underway < UNDERWAY, "{underway} bytes were taken");
    let other = Channel::to(house.address).await;
    let answered = other.ask(grpc("/agents/a/p.S/M", &[]), "x").await;
    assert_eq!((answered.outcome(), &*answered.body), (("0", ""), "done"));
    assert_eq!(worker.connections(), 1);
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(piece) = hear(&mut body).await {
        read += piece.len();
    }
    assert_eq!(read, MUCH + "done".len());
    assert_eq!(soon(body.trailers()).await.expect("an end"), Some(well()));
}

#[tokio::test]
async fn an_agent_that_does_not_read_stalls_its_caller() {
    let house = House::new();
    let go = Arc::new(Semaphore::new(0));
    let gone = Arc::clone(&go);
    let _worker = Worker::grpc(&house.socket("a"), move |request, mut respond| {
        let gone = Arc::clone(&gone);
        async move {
            gone.acquire().await.expect("open").forget();
            let (mut body, mut read) = (request.into_body(), 0);
            while let Some(piece) = hear(&mut body).await {
                read += piece.len();
            }
            let mut answer = respond.send_response(head(), false).expect("a head");
            let read = Bytes::from(read.to_string());
            answer.send_data(read, false).expect("sent");
            answer.send_trailers(well()).expect("an end");
        }
    });
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let upload = tokio::spawn(async move { pour(call.sending, &counter).await });
    let underway = settled(&sent).await;
    assert!(underway < UNDERWAY, "{underway} bytes were taken");
    go.add_permits(1);
    let mut sending = soon(upload).await.expect("sent");
    sending.send_data(Bytes::new(), true).expect("ended");
    let mut body = soon(call.answer).await.expect("an answer").into_body();
    assert_eq!(hear(&mut body).await, Some(MUCH.to_string()));
}
