//! A thousand calls a second and a hundred open streams, whatever happens meanwhile. Nothing is asked a second time: what
//! goes wrong is counted.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::bench::answer::{Answer, post_json, post_json_for_events};
use crate::bench::connection::{Connection, ask};
use crate::bench::peers::supervisor::invoke_path;

/// Each with a connection of its own; a thousand calls a second, all together.
const CALLERS: u32 = 100;
const EVERY: Duration = Duration::from_millis(100);
const LISTENERS: usize = 100;
/// Silence longer than this is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before somebody whose stream broke asks for another one.
const PAUSE: Duration = Duration::from_millis(20);

/// Two, who share it all: one works on no more than 64 calls at a time, streams included.
pub(super) const AGENTS: [&str; 2] = ["left", "right"];
pub(super) const SURFACE: &str =
    "entrypoint: src.main:invoke\nexports:\n  - name: ticks\n    handler: src.main:ticks";
/// How long a stream takes.
pub(super) const STREAM: Duration = Duration::from_secs(2);
pub(super) const SOURCE: &str = r#"
import asyncio

async def invoke(body):
    return {"x": body["x"]}

async def ticks(body):
    for n in range(20):
        yield {"n": n}
        await asyncio.sleep(0.1)
"#;

pub(super) struct Traffic {
    ends: Rc<Cell<bool>>,
    callers: JoinSet<Tally>,
    listeners: JoinSet<Tally>,
}

/// What came of calls, or of streams.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) right: Vec<Right>,
    pub(super) failures: Vec<String>,
}

pub(super) struct Right {
    pub(super) sent: Instant,
    pub(super) took: Duration,
}

impl Traffic {
    pub(super) async fn begin(address: SocketAddr) -> anyhow::Result<Self> {
        let ends = Rc::new(Cell::new(false));
        let mut streams = vec![];
        for agent in AGENTS {
            streams.push(Rc::new(Stream::prove(address, agent).await?));
        }
        let (mut callers, mut listeners) = (JoinSet::new(), JoinSet::new());
        for stream in streams.iter().cycle().take(LISTENERS) {
            let (stream, ends) = (Rc::clone(stream), Rc::clone(&ends));
            listeners.spawn_local(async move { stream.listen(&ends).await });
        }
        for number in 0..CALLERS {
            let (caller, ends) = (Caller::new(address, number), Rc::clone(&ends));
            callers.spawn_local(caller.call(ends));
        }
        Ok(Self {
            ends,
            callers,
            listeners,
        })
    }

    /// Calls that have begun are answered, and streams come to their end: of calls, and of streams.
    pub(super) async fn end(self) -> (Tally, Tally) {
        self.ends.set(true);
        (
            Tally::of(self.callers.join_all().await),
            Tally::of(self.listeners.join_all().await),
        )
    }
}

impl Tally {
    fn of(parts: Vec<Self>) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.right.extend(part.right);
            all.failures.extend(part.failures);
        }
        all
    }

    async fn count(&mut self, answered: impl Future<Output = anyhow::Result<()>>) -> bool {
        let sent = Instant::now();
        let silent = || format!("no answer within {PATIENCE:?}");
        let answered = timeout(PATIENCE, answered).await.with_context(silent);
        let took = sent.elapsed();
        match answered.flatten() {
            Ok(()) => self.right.push(Right { sent, took }),
            Err(error) => {
                self.failures.push(format!("{error:#}"));
                return false;
            }
        }
        true
    }
}

/// Keeps its pace: who was held up makes up for it.
struct Caller {
    address: SocketAddr,
    number: u32,
    connection: Option<Connection>,
}

impl Caller {
    fn new(address: SocketAddr, number: u32) -> Self {
        Self {
            address,
            number,
            connection: None,
        }
    }

    async fn call(mut self, ends: Rc<Cell<bool>>) -> Tally {
        sleep(EVERY * self.number / CALLERS).await;
        let mut tally = Tally::default();
        let mut pace = interval(EVERY);
        for count in 0.. {
            pace.tick().await;
            if ends.get() {
                break;
            }
            tally.count(self.ask(count)).await;
        }
        tally
    }

    /// Now this agent, now that. No two calls are the same, so that nobody gets another's answer unseen.
    async fn ask(&mut self, count: u32) -> anyhow::Result<()> {
        let agent = AGENTS[(self.number + count) as usize % AGENTS.len()];
        let body = json!({ "x": format!("{count} of {}", self.number) });
        let mut connection = match self.connection.take() {
            // Who closes a connection on which nothing was asked breaks no promise.
            Some(connection) if connection.is_open() => connection,
            _ => Connection::open(self.address).await?,
        };
        let call = post_json(&invoke_path(agent), &body);
        let answer = connection.exchange(&call).await?;
        if answer.goes_on {
            self.connection = Some(connection);
        }
        is_right(&answer, |said| {
            serde_json::from_slice::<Value>(said).is_ok_and(|said| said == body)
        })
    }
}

/// Server-sent events, the same ones each time.
struct Stream {
    address: SocketAddr,
    request: Vec<u8>,
    events: Vec<u8>,
}

impl Stream {
    async fn prove(address: SocketAddr, agent: &str) -> anyhow::Result<Self> {
        let path = format!("/agents/{agent}/exports/ticks");
        let request = post_json_for_events(&path, &json!({}));
        let answer = ask(address, &request).await?;
        is_right(&answer, |events| {
            let lines = events.split(|byte| *byte == b'\n');
            lines.filter(|line| line.starts_with(b"data:")).count() >= 20
        })?;
        Ok(Self {
            address,
            request,
            events: answer.body,
        })
    }

    async fn listen(&self, ends: &Cell<bool>) -> Tally {
        let mut tally = Tally::default();
        while !ends.get() {
            if !tally.count(self.hear()).await {
                sleep(PAUSE).await;
            }
        }
        tally
    }

    async fn hear(&self) -> anyhow::Result<()> {
        let answer = ask(self.address, &self.request).await?;
        is_right(&answer, |events| events == self.events)
    }
}

fn is_right(answer: &Answer, body: impl Fn(&[u8]) -> bool) -> anyhow::Result<()> {
    ensure!(
        answer.status == 200 && body(&answer.body),
        "answered {}: {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(())
}
