use std::collections::VecDeque;
use std::sync::Mutex;

use par_store::Bounds;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;

const SECRET: &str = "whsec_aHVudGVyMg==";

/// What a receiver was sent.
struct Got {
    id: String,
    timestamp: u64,
    signature: String,
    body: Vec<u8>,
}

impl Got {
    fn event(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn kind(&self) -> String {
        self.event()["kind"].as_str().expect("a kind").to_owned()
    }
}

/// Answers as it is told, then with 200.
struct Receiver {
    port: u16,
    got: mpsc::UnboundedReceiver<Got>,
    serving: tokio::task::JoinHandle<()>,
}

impl Receiver {
    async fn new(answers: impl IntoIterator<Item = u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let answers: Mutex<VecDeque<u16>> = Mutex::new(answers.into_iter().collect());
        let (tell, got) = mpsc::unbounded_channel();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let answer = answers.lock().expect("no panic").pop_front();
                let told = answer_one(stream, answer.unwrap_or(200)).await;
                let _nobody_looks = tell.send(told);
            }
        });
        Self { port, got, serving }
    }

    fn webhook(&self, path: &str) -> Webhook {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        Webhook {
            target: url.parse().expect("a URL"),
            secret: SECRET.parse().expect("a secret"),
            kinds: BTreeSet::new(),
            agents: BTreeSet::new(),
        }
    }

    async fn next(&mut self) -> Got {
        let next = timeout(Duration::from_secs(30), self.got.recv()).await;
        next.expect("it comes in time").expect("it serves")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer_one(stream: TcpStream, status: u16) -> Got {
    let mut stream = BufReader::new(stream);
    let mut head = std::collections::BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a line");
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            head.insert(name.to_owned(), value.to_owned());
        }
    }
    let mut body = vec![0; head["content-length"].parse().expect("a number")];
    stream.read_exact(&mut body).await.expect("the body");
    let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.expect("written");
    Got {
        id: head["webhook-id"].clone(),
        timestamp: head["webhook-timestamp"].parse().expect("a number"),
        signature: head["webhook-signature"].clone(),
        body,
    }
}

/// A life of a supervisor, as far as events go.
struct Life {
    log: Arc<EventLog>,
    writing: tokio::task::JoinHandle<()>,
    telling: JoinSet<()>,
}

impl Life {
    async fn begin(folder: &std::path::Path, webhooks: Vec<Webhook>) -> Self {
        let store = Arc::new(Store::open(folder, Bounds::default()).expect("it opens"));
        let (log, writer) = EventLog::new(Arc::clone(&store)).expect("it opens");
        let log = Arc::new(log);
        let course = Course {
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(4),
            attempts: 5,
        };
        let telling = start_with(course, webhooks, &log, &store).await;
        Self {
            writing: tokio::spawn(writer.run()),
            telling: telling.expect("it starts"),
            log,
        }
    }

    async fn note(&self, kind: EventKind, agent: &str) {
        self.log.note(NewEvent {
            agent: Some(agent.parse().expect("an agent id")),
            ..happening(kind)
        });
        self.log.written(Duration::from_secs(30)).await;
    }

    /// Nothing of it uses the folder any more.
    async fn end(mut self) {
        self.telling.shutdown().await;
        drop(self.log);
        self.writing.await.expect("it ends with its log");
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[tokio::test]
async fn an_event_is_sent_signed_and_again_until_it_is_taken() {
    let folder = folder();
    let mut receiver = Receiver::new([500, 302, 404]).await;
    let life = Life::begin(folder.path(), vec![receiver.webhook("hook")]).await;
    life.note(EventKind::Ready, "a").await;
    life.note(EventKind::Stopped, "a").await;
    let secret: Secret = SECRET.parse().expect("a secret");
    let mut ids = BTreeSet::new();
    for _ in 0..4 {
        let got = receiver.next().await;
        assert_eq!(
            got.signature,
            secret.sign(&got.id, got.timestamp, &got.body)
        );
        assert!(got.timestamp.abs_diff(now_ms() / 1000) < 60);
        assert_eq!(got.kind(), "ready");
        assert_eq!(got.event()["agent"], "a");
        ids.insert(got.id);
    }
    assert_eq!(ids.len(), 1, "it is the same message each time");
    let next = receiver.next().await;
    assert_eq!(next.kind(), "stopped");
    assert!(!ids.contains(&next.id));
    life.end().await;
}

#[tokio::test]
async fn a_hook_gets_only_what_it_asked_for() {
    let folder = folder();
    let mut receiver = Receiver::new([]).await;
    let webhook = Webhook {
        kinds: [EventKind::Crashed, EventKind::Ready].into(),
        agents: ["a".parse().expect("an agent id")].into(),
        ..receiver.webhook("hook")
    };
    let life = Life::begin(folder.path(), vec![webhook]).await;
    life.note(EventKind::Ready, "b").await;
    life.note(EventKind::Stopped, "a").await;
    life.note(EventKind::Crashed, "a").await;
    let got = receiver.next().await;
    assert_eq!(
        (got.kind().as_str(), got.event()["id"].as_u64()),
        ("crashed", Some(3))
    );
    life.end().await;
}

#[tokio::test]
async fn a_hook_that_is_down_holds_up_no_other_and_is_given_up_by_an_event() {
    let folder = folder();
    let mut receiver = Receiver::new([]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let hanging_up = tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let down = Webhook {
        target: format!("http://127.0.0.1:{port}/down")
            .parse()
            .expect("a URL"),
        ..receiver.webhook("down")
    };
    let target = down.target.to_string();
    let life = Life::begin(folder.path(), vec![down, receiver.webhook("up")]).await;
    life.note(EventKind::Ready, "a").await;
    assert_eq!(receiver.next().await.kind(), "ready");
    let got = receiver.next().await;
    assert_eq!(got.kind(), "webhook_gave_up");
    let event = got.event();
    assert_eq!(event["details"]["webhook"], target);
    assert_eq!(event["details"]["event"], 1);
    assert_eq!(event["details"]["attempts"], 5);
    let reason = event["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("the connection broke"), "{reason}");
    // Its own giving up is not sent to it: that would be given up as well, and so on.
    life.note(EventKind::Stopped, "a").await;
    let kinds = [receiver.next().await.kind(), receiver.next().await.kind()];
    assert_eq!(kinds, ["stopped", "webhook_gave_up"]);
    let events = life.log.newest(EventFilter::default(), 100).await;
    assert_eq!(events.expect("read").len(), 4);
    hanging_up.abort();
    life.end().await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_for_good_is_not_asked_again() {
    let folder = folder();
    let mut receiver = Receiver::new([410]).await;
    let life = Life::begin(folder.path(), vec![receiver.webhook("hook")]).await;
    life.note(EventKind::Ready, "a").await;
    assert_eq!(receiver.next().await.kind(), "ready");
    life.note(EventKind::Stopped, "a").await;
    assert_eq!(receiver.next().await.kind(), "stopped");
    life.end().await;
}

#[tokio::test]
async fn after_a_restart_it_goes_on_where_it_stopped() {
    let folder = folder();
    let mut receiver = Receiver::new([]).await;
    let life = Life::begin(folder.path(), vec![]).await;
    life.note(EventKind::Starting, "a").await;
    life.end().await;
    // A new hook is not told what was before it.
    let life = Life::begin(folder.path(), vec![receiver.webhook("hook")]).await;
    life.note(EventKind::Ready, "a").await;
    assert_eq!(receiver.next().await.kind(), "ready");
    life.note(EventKind::Crashed, "a").await;
    let crashed = receiver.next().await;
    life.end().await;
    let life = Life::begin(folder.path(), vec![receiver.webhook("hook")]).await;
    life.note(EventKind::Stopped, "a").await;
    let mut next = receiver.next().await;
    // It was sent, and the life may have ended before that was noted.
    if next.id == crashed.id {
        next = receiver.next().await;
    }
    assert_eq!(next.kind(), "stopped");
    life.end().await;
}

#[tokio::test]
async fn what_could_not_be_sent_in_one_life_is_sent_in_the_next() {
    let folder = folder();
    let mut receiver = Receiver::new([500]).await;
    let life = Life::begin(folder.path(), vec![receiver.webhook("hook")]).await;
    life.note(EventKind::Ready, "a").await;
    let refused = receiver.next().await;
    life.end().await;
    let life = Life::begin(folder.path(), vec![receiver.webhook("hook")]).await;
    let again = receiver.next().await;
    assert_eq!(again.id, refused.id);
    life.end().await;
}

#[test]
fn pauses_are_spread_over_their_whole_width() {
    let spreads: Vec<f64> = (0..1000).map(|_| spread()).collect();
    assert!(spreads.iter().all(|spread| (0.0..1.0).contains(spread)));
    assert!(spreads.iter().any(|spread| *spread < 0.1));
    assert!(spreads.iter().any(|spread| *spread > 0.9));
}
