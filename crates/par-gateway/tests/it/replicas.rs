//! Agents with more than one replica.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Response;
use par_gateway::{Backend, Config, Route, Targets};
use par_protocol_free::execute;
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, mpsc};

use crate::channel::{Channel, grpc};
use crate::house::{House, ready, rest};
use crate::wire::{Wire, get, soon};
use crate::worker::{Worker, full, read_head};

/// Messages of the execution backend, written by hand: this crate knows none of them.
mod par_protocol_free {
    /// `ExecuteRequest { code: "x=1", session_id }`, framed.
    pub(super) fn execute(session: &str) -> String {
        let length = u8::try_from(session.len()).expect("short");
        let mut message = vec![0x0a, 3, b'x', b'=', b'1', 0x22, length];
        message.extend(session.as_bytes());
        let framed = [&[0, 0, 0, 0][..], &[7 + length], &message].concat();
        String::from_utf8(framed).expect("all of it is ASCII")
    }
}

struct Replica {
    backend: Arc<Backend>,
    _worker: Worker,
}

impl Replica {
    /// Answers HTTP with its name.
    fn new(house: &House, name: &'static str) -> Self {
        let socket = house.socket(name);
        let worker = Worker::named(&socket, name);
        Self::of(house, name, worker)
    }

    /// Answers gRPC with its name.
    fn grpc(house: &House, name: &'static str) -> Self {
        let worker = Worker::grpc_named(&house.socket(name), name);
        Self::of(house, name, worker)
    }

    fn of(house: &House, name: &'static str, worker: Worker) -> Self {
        Self {
            backend: house.backend("a", house.socket(name)),
            _worker: worker,
        }
    }
}

fn all(replicas: &[&Replica]) -> Vec<Arc<Backend>> {
    let backends = replicas.iter();
    backends
        .map(|replica| Arc::clone(&replica.backend))
        .collect()
}

fn routes(groups: &[(u16, &[&Replica])], leaving: &[&Replica]) -> [(&'static str, Route); 1] {
    let groups = groups.iter();
    let groups = groups.map(|(share, replicas)| (*share, all(replicas)));
    [(
        "a",
        Route::Ready(Targets::new(groups.collect(), all(leaving))),
    )]
}

/// The names of those who answered, and how often.
async fn answers(house: &House, path: &str, count: u32) -> BTreeMap<String, u32> {
    let mut wire = Wire::to(house.address).await;
    let mut names = BTreeMap::new();
    for _ in 0..count {
        *names.entry(named(&mut wire, path, "").await).or_default() += 1;
    }
    names
}

async fn named(wire: &mut Wire, path: &str, headers: &str) -> String {
    wire.send(format!(
        "GET /agents/a{path} HTTP/1.1\r\nhost: g\r\n{headers}\r\n"
    ))
    .await;
    let answer = wire.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.rsplit_once("\r\n\r\n").expect("a body").1.to_owned()
}

#[tokio::test]
async fn calls_are_spread_over_all_replicas() {
    let house = House::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| Replica::new(&house, name));
    house.publish(routes(&[(1000, &[&a, &b, &c])], &[]));
    let names = answers(&house, "/x", 600).await;
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.values().all(|count| *count > 100), "{names:?}");
}

#[tokio::test]
async fn a_canary_gets_its_share() {
    let house = House::new();
    let [stable, canary] = ["stable", "canary"].map(|name| Replica::new(&house, name));
    house.publish(routes(&[(900, &[&stable]), (100, &[&canary])], &[]));
    let names = answers(&house, "/x", 1000).await;
    // Five standard deviations.
    assert!((50..150).contains(&names["canary"]), "{names:?}");
}

#[tokio::test]
async fn a_replica_that_is_busy_is_passed_over() {
    let house = House::new();
    let gate = Arc::new(Semaphore::new(0));
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let busy = {
        let gate = Arc::clone(&gate);
        let worker = Worker::http(&house.socket("busy"), move |_| {
            let (gate, asked) = (Arc::clone(&gate), asked.clone());
            async move {
                asked.send(()).expect("the test waits");
                gate.acquire().await.expect("open").forget();
                Response::new(full("busy"))
            }
        });
        Replica::of(&house, "busy", worker)
    };
    house.publish(routes(&[(1000, &[&busy])], &[]));
    let call = tokio::spawn(get(house.address, "/agents/a/x"));
    soon(was_asked.recv()).await.expect("asked");
    let free = Replica::new(&house, "free");
    house.publish(routes(&[(1000, &[&busy, &free])], &[]));
    assert_eq!(answers(&house, "/x", 50).await["free"], 50);
    gate.add_permits(1);
    assert!(soon(call).await.expect("an answer").ends_with("busy"));
    rest(&busy.backend).await;
}

#[tokio::test]
async fn a_replica_that_is_gone_is_tried_around_at_once() {
    let house = House::with(Config {
        hold: std::time::Duration::ZERO,
        ..Config::default()
    });
    let gone = house.backend("a", house.socket("gone"));
    let here = Replica::new(&house, "here");
    let both = vec![gone, Arc::clone(&here.backend)];
    house.publish([("a", Route::Ready(Targets::new(vec![(1000, both)], vec![])))]);
    for _ in 0..20 {
        let answer = get(house.address, "/agents/a/x").await;
        assert!(answer.ends_with("here"), "{answer}");
    }
}

#[tokio::test]
async fn a_grpc_call_is_tried_around_one_that_is_gone() {
    let house = House::with(Config {
        hold: std::time::Duration::ZERO,
        ..Config::default()
    });
    let gone = house.backend("a", house.socket("gone"));
    let here = Replica::grpc(&house, "here");
    let both = vec![gone, Arc::clone(&here.backend)];
    house.publish([("a", Route::Ready(Targets::new(vec![(1000, both)], vec![])))]);
    let channel = Channel::to(house.address).await;
    for _ in 0..20 {
        let answered = channel.ask(grpc("/agents/a/p.S/M", &[]), "x").await;
        assert_eq!((answered.outcome().0, &*answered.body), ("0", "here x"));
    }
}

#[tokio::test]
async fn what_one_replica_may_have_seen_is_not_sent_to_another() {
    let house = House::new();
    let seen = Arc::new(AtomicUsize::new(0));
    let rude = |name: &'static str| {
        let seen = Arc::clone(&seen);
        let worker = Worker::raw(&house.socket(name), move |mut stream| {
            let seen = Arc::clone(&seen);
            async move {
                read_head(&mut stream).await;
                seen.fetch_add(1, Ordering::SeqCst);
            }
        });
        Replica::of(&house, name, worker)
    };
    let (one, two) = (rude("one"), rude("two"));
    house.publish(routes(&[(1000, &[&one, &two])], &[]));
    for calls in 1..=10 {
        let answer = get(house.address, "/agents/a/x").await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        assert_eq!(seen.load(Ordering::SeqCst), calls);
    }
}

#[tokio::test]
async fn a_session_stays_where_it_began_when_its_replica_is_to_leave() {
    let house = House::new();
    let [old, other, new] = ["old", "other", "new"].map(|name| Replica::new(&house, name));
    house.publish(routes(&[(1000, &[&old, &other])], &[]));
    let mut wire = Wire::to(house.address).await;
    let mut began = BTreeMap::new();
    for number in 0..20 {
        let path = format!("/sessions/s{number}/execute");
        let name = named(&mut wire, &path, "").await;
        began.insert(number, name);
    }
    assert_eq!(answers(&house, "/sessions/s3", 20).await.len(), 1);
    house.publish(routes(&[(1000, &[&new])], &[&old, &other]));
    for (number, name) in &began {
        let path = format!("/sessions/s{number}");
        assert_eq!(&named(&mut wire, &path, "").await, name);
        let header = format!("x-session-id: s{number}\r\n");
        assert_eq!(&named(&mut wire, "/invoke", &header).await, name);
    }
    assert_eq!(answers(&house, "/x", 20).await["new"], 20);
    assert_eq!(named(&mut wire, "/sessions/fresh", "").await, "new");
    house.publish(routes(&[(1000, &[&new])], &[]));
    assert_eq!(named(&mut wire, "/sessions/s3", "").await, "new");
}

#[tokio::test]
async fn a_session_of_grpc_is_the_one_that_its_message_names() {
    let house = House::new();
    let [old, other, new] = ["old", "other", "new"].map(|name| Replica::grpc(&house, name));
    house.publish(routes(&[(1000, &[&old, &other])], &[]));
    let channel = Channel::to(house.address).await;
    let path = "/agents/a/pixell.python_agent.PythonAgent/Execute";
    let call = async |message: String, metadata: &[(&str, &str)]| {
        channel.ask(grpc(path, metadata), &message).await.body
    };
    let mut began = Vec::new();
    for number in 0..20 {
        let session = format!("s{number}");
        began.push((call(execute(&session), &[]).await, session));
    }
    assert!(began.iter().any(|(name, _)| name.starts_with("old ")));
    assert!(began.iter().any(|(name, _)| name.starts_with("other ")));
    house.publish(routes(&[(1000, &[&new])], &[&old, &other]));
    for (answer, session) in &began {
        // All of the message has arrived too.
        assert_eq!(&call(execute(session), &[]).await, answer);
        let (name, _) = answer.split_once(' ').expect("a name");
        let by_metadata = call(execute("-"), &[("x-session-id", session)]).await;
        assert!(
            by_metadata.starts_with(&format!("{name} ")),
            "{by_metadata}"
        );
    }
    assert!(call(execute("fresh"), &[]).await.starts_with("new "));
}

#[tokio::test]
async fn a_session_waits_for_its_replica_and_goes_elsewhere_when_that_is_withdrawn() {
    let house = House::with(Config {
        hold: std::time::Duration::from_secs(60),
        ..Config::default()
    });
    let mut has_it = Replica::new(&house, "has it");
    house.publish([("a", ready(&has_it.backend))]);
    assert_eq!(answers(&house, "/sessions/s", 1).await["has it"], 1);
    has_it._worker = Worker::named(&house.socket("nowhere"), "");
    std::fs::remove_file(has_it.backend.socket()).expect("removed");
    let other = Replica::new(&house, "other");
    house.publish(routes(&[(1000, &[&has_it, &other])], &[]));
    let call = tokio::spawn(get(house.address, "/agents/a/sessions/s"));
    // Another session gets its answer meanwhile, and this one none.
    assert_eq!(answers(&house, "/x", 10).await["other"], 10);
    assert!(!call.is_finished());
    house.publish(routes(&[(1000, &[&other])], &[]));
    assert!(soon(call).await.expect("an answer").ends_with("other"));
}

#[tokio::test]
async fn calls_go_on_while_replicas_replace_each_other() {
    let house = House::new();
    let stop = Arc::new(AtomicBool::new(false));
    let address = house.address;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let stop = Arc::clone(&stop);
        callers.spawn(async move {
            let mut wire = Wire::to(address).await;
            while !stop.load(Ordering::SeqCst) {
                named(&mut wire, "/x", "").await;
            }
        });
    }
    for round in 0..100 {
        let socket = house.socket(&format!("s{round}"));
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&calls);
        let worker = Worker::http(&socket, move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
            async { Response::new(full("x")) }
        });
        let backend = house.backend("a", socket);
        house.publish([("a", ready(&backend))]);
        soon(async {
            while calls.load(Ordering::SeqCst) < 10 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        house.publish([("a", Route::Soon)]);
        soon(backend.quiet()).await;
        drop(worker);
    }
    stop.store(true, Ordering::SeqCst);
    let last = Replica::new(&house, "last");
    house.publish(routes(&[(1000, &[&last])], &[]));
    while let Some(caller) = soon(callers.join_next()).await {
        caller.expect("every call was answered");
    }
}

#[tokio::test]
async fn connections_to_a_replica_that_left_are_closed() {
    let house = House::new();
    let (closed, mut was_closed) = mpsc::unbounded_channel();
    let worker = Worker::raw(&house.socket("old"), move |mut stream| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer)
                .await
                .expect("sent");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.expect("an end");
            closed.send(rest.len()).expect("the test waits");
        }
    });
    let old = Replica::of(&house, "old", worker);
    let new = Replica::new(&house, "new");
    house.publish(routes(&[(1000, &[&old])], &[]));
    assert_eq!(answers(&house, "/x", 1).await["old"], 1);
    house.publish(routes(&[(1000, &[&new])], &[]));
    assert_eq!(soon(was_closed.recv()).await, Some(0));
}
