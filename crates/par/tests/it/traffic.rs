//! Callers and listeners that go on while something happens to the agents, and remember everything that went wrong.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use par_testkit::PackageBuilder;
use serde_json::{Value, json};

use crate::scene::exports;

/// Says who it is, of which release, and what it was asked.
const SPEAKER: &str = r#"
import asyncio, os

ME = os.environ["PAR_AGENT_ID"]
RELEASE = os.environ.get("RELEASE", "1")
# Of this process, and no other.
BORN = int.from_bytes(os.urandom(4), "big")

async def handler(body):
    if body.get("rest"):
        print("resting", flush=True)
        await asyncio.sleep(body["rest"])
    return {"me": ME, "n": body["n"], "release": RELEASE, "born": BORN}

async def ticks(body):
    for n in range(body["count"]):
        yield {"me": ME, "n": n, "release": RELEASE}
        await asyncio.sleep(body["every"])
"#;

/// Silence longer than this is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn speaker(name: &str) -> PackageBuilder {
    let package = PackageBuilder::new(name).main(SPEAKER);
    package.manifest(&exports(&["ticks"]))
}

/// What is to go on, for each of the agents.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) callers: usize,
    /// From one call of a caller to its next.
    pub(crate) pause: Duration,
    pub(crate) listeners: usize,
}

/// Ends when it is told to.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Tally>>,
}

/// Told while it goes on: a test that waits for answers would never see why there are none.
#[expect(
    clippy::print_stdout,
    reason = "it is shown with the failure of its test"
)]
fn tell_first(failures: &[Failure]) {
    if let [first] = failures {
        println!("the first failure of a caller: {first:?}");
    }
}

/// What came of all calls and streams.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) streams: u64,
    pub(crate) releases: BTreeMap<String, u64>,
    pub(crate) slowest: Duration,
    pub(crate) failures: Vec<Failure>,
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) agent: String,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) what: Wrong,
}

pub(crate) enum Wrong {
    /// Somebody else answered, or to another question. Never to be excused.
    Answer(String),
    Status(u16, String),
    Connection(String),
}

impl std::fmt::Debug for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answer(said) => write!(f, "the wrong answer: {said}"),
            Self::Status(status, said) => write!(f, "{status}: {said}"),
            Self::Connection(error) => write!(f, "no answer: {error}"),
        }
    }
}

impl Traffic {
    pub(crate) fn begin(url: &str, agents: &[&str], rate: Rate) -> Self {
        let address = url.strip_prefix("http://").expect("a URL of ours");
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let mut threads = vec![];
        for agent in agents {
            for _ in 0..rate.callers {
                let caller = Caller::new(address, agent);
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                threads.push(thread::spawn(move || {
                    caller.call_until(&stop, &answered, rate.pause)
                }));
            }
        }
        if rate.listeners > 0 {
            let agents = agents.iter().map(|agent| (*agent).to_owned());
            let (agents, stop) = (agents.collect::<Vec<_>>(), Arc::clone(&stop));
            let address = address.to_owned();
            threads.push(thread::spawn(move || {
                streams::listen(&address, &agents, rate.listeners, &stop)
            }));
        }
        Self {
            stop,
            answered,
            threads,
        }
    }

    /// Until now.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more calls were answered.
    #[track_caller]
    pub(crate) fn pass(&self, calls: u64) {
        let enough = self.answered() + calls;
        par_testkit::wait_for("more answers", crate::scene::PATIENCE, || {
            (self.answered() >= enough).then_some(())
        });
    }

    /// Calls that have begun are answered, streams come to their end.
    pub(crate) fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads {
            all.add(thread.join().expect("its failures are told, not thrown"));
        }
        all
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.streams += other.streams;
        self.slowest = self.slowest.max(other.slowest);
        for (release, calls) in other.releases {
            *self.releases.entry(release).or_default() += calls;
        }
        self.failures.extend(other.failures);
    }

    #[track_caller]
    pub(crate) fn is_flawless(&self) {
        let some: Vec<&Failure> = self.failures.iter().take(5).collect();
        let all = self.failures.len();
        assert!(
            all == 0,
            "{all} failures beside {} calls: {some:?}",
            self.calls
        );
    }
}

struct Caller {
    address: String,
    agent: String,
    connection: Option<BufReader<TcpStream>>,
}

impl Caller {
    fn new(address: &str, agent: &str) -> Self {
        Self {
            address: address.to_owned(),
            agent: agent.to_owned(),
            connection: None,
        }
    }

    fn call_until(mut self, stop: &AtomicBool, answered: &AtomicU64, pause: Duration) -> Tally {
        let mut tally = Tally::default();
        let mut next = Instant::now();
        for n in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let began = Instant::now();
            match self.call(n) {
                Ok(release) => {
                    tally.calls += 1;
                    answered.fetch_add(1, Ordering::Relaxed);
                    *tally.releases.entry(release).or_default() += 1;
                    tally.slowest = tally.slowest.max(began.elapsed());
                }
                Err(what) => {
                    self.connection = None;
                    tally.failures.push(Failure {
                        agent: self.agent.clone(),
                        began,
                        ended: Instant::now(),
                        what,
                    });
                    tell_first(&tally.failures);
                }
            }
            // Who is late does not hurry.
            next = (next + pause).max(Instant::now());
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        tally
    }

    /// The release that answered.
    fn call(&mut self, n: u64) -> Result<String, Wrong> {
        let broken = |error: io::Error| Wrong::Connection(error.to_string());
        let body = json!({ "n": n }).to_string();
        let path = format!("/agents/{}/invoke", self.agent);
        let mut connection = self.connected().map_err(broken)?;
        let head = head("POST", &path, "application/json", body.len());
        let request = format!("{head}{body}");
        connection
            .get_mut()
            .write_all(request.as_bytes())
            .map_err(broken)?;
        let (status, text, goes_on) = answer(&mut connection).map_err(broken)?;
        if goes_on {
            self.connection = Some(connection);
        }
        if status != 200 {
            return Err(Wrong::Status(status, text));
        }
        let said: Value = serde_json::from_str(&text).map_err(|_| Wrong::Answer(text.clone()))?;
        match said["release"].as_str() {
            Some(release) if said["me"] == self.agent.as_str() && said["n"] == n => {
                Ok(release.to_owned())
            }
            _ => Err(Wrong::Answer(text)),
        }
    }

    /// Whoever closed a connection while nothing was asked broke no promise.
    fn connected(&mut self) -> io::Result<BufReader<TcpStream>> {
        if let Some(connection) = self.connection.take() {
            let stream = connection.get_ref();
            stream.set_nonblocking(true)?;
            let open = matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            stream.set_nonblocking(false)?;
            if open {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(BufReader::new(stream))
    }
}

fn head(method: &str, path: &str, accept: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// Status, body, and whether the connection may be used again.
fn answer(connection: &mut BufReader<TcpStream>) -> io::Result<(u16, String, bool)> {
    let mut line = || {
        let mut line = String::new();
        match connection.read_line(&mut line)? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(line.trim_end().to_ascii_lowercase()),
        }
    };
    let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let first = line()?;
    let status = first.split(' ').nth(1).and_then(|it| it.parse().ok());
    let status = status.ok_or_else(|| odd(&first))?;
    let (mut length, mut goes_on, mut chunked) = (None, true, false);
    loop {
        let header = line()?;
        match header.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok(),
            Some(("connection", value)) => goes_on = value != "close",
            Some(("transfer-encoding", value)) => chunked = value == "chunked",
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![];
    while chunked {
        let mut size = String::new();
        connection.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim_end(), 16).map_err(|_| odd(&size))?;
        let mut chunk = vec![0; size + 2];
        connection.read_exact(&mut chunk)?;
        body.extend_from_slice(&chunk[..size]);
        chunked = size > 0;
    }
    if let Some(length) = length {
        body.resize(length, 0);
        connection.read_exact(&mut body)?;
    }
    Ok((status, String::from_utf8_lossy(&body).into_owned(), goes_on))
}

mod streams {
    //! Many at the same time, by one thread.

    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpStream;
    use tokio::task::JoinSet;
    use tokio::time::{sleep, timeout};

    use super::*;

    const EVENTS: u64 = 20;
    const EVERY: f64 = 0.15;
    /// Before somebody who was refused tries again.
    const PAUSE: Duration = Duration::from_millis(20);

    pub(super) fn listen(
        address: &str,
        agents: &[String],
        each: usize,
        stop: &Arc<AtomicBool>,
    ) -> Tally {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let listening = async {
            let mut all = JoinSet::new();
            for agent in agents {
                for _ in 0..each {
                    all.spawn(one_after_the_other(
                        address.to_owned(),
                        agent.clone(),
                        Arc::clone(stop),
                    ));
                }
            }
            let mut tally = Tally::default();
            for own in all.join_all().await {
                tally.add(own);
            }
            tally
        };
        runtime.expect("a runtime").block_on(listening)
    }

    async fn one_after_the_other(address: String, agent: String, stop: Arc<AtomicBool>) -> Tally {
        let mut tally = Tally::default();
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            match timeout(PATIENCE, hear_all(&address, &agent)).await {
                Ok(Ok(())) => tally.streams += 1,
                other => {
                    let what = match other {
                        Ok(Err(what)) => what,
                        _ => Wrong::Connection("it took too long".to_owned()),
                    };
                    tally.failures.push(Failure {
                        agent: agent.clone(),
                        began,
                        ended: Instant::now(),
                        what,
                    });
                    sleep(PAUSE).await;
                }
            }
        }
        tally
    }

    async fn hear_all(address: &str, agent: &str) -> Result<(), Wrong> {
        let broken = |error: io::Error| Wrong::Connection(error.to_string());
        let mut stream = TcpStream::connect(address).await.map_err(broken)?;
        let body = json!({ "count": EVENTS, "every": EVERY }).to_string();
        let path = format!("/agents/{agent}/exports/ticks");
        let request = head("POST", &path, "text/event-stream", body.len()) + &body;
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        let mut stream = BufReader::new(stream);
        let first = line(&mut stream).await.map_err(broken)?;
        let status = first.split(' ').nth(1).and_then(|it| it.parse().ok());
        while !line(&mut stream).await.map_err(broken)?.is_empty() {}
        if status != Some(200) {
            return Err(Wrong::Status(status.unwrap_or(0), first));
        }
        let mut release = None;
        for n in 0..EVENTS {
            let event = chunk(&mut stream).await.map_err(|error| {
                Wrong::Connection(format!("a stream broke before event {n}: {error}"))
            })?;
            let text = String::from_utf8_lossy(&event).into_owned();
            let said = text.strip_prefix("data: ").unwrap_or("");
            let said: Value = serde_json::from_str(said).unwrap_or_default();
            let release = release.get_or_insert_with(|| said["release"].clone());
            let right = said["me"] == agent && said["n"] == n && said["release"] == *release;
            if !right {
                return Err(Wrong::Answer(format!("{n}: {text}")));
            }
        }
        match chunk(&mut stream).await {
            Ok(last) if last.is_empty() => Ok(()),
            Ok(more) => Err(Wrong::Answer(String::from_utf8_lossy(&more).into_owned())),
            Err(error) => Err(broken(error)),
        }
    }

    async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
        let mut line = String::new();
        match stream.read_line(&mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// One event, as the agent yields them.
    async fn chunk(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
        let size = line(stream).await?;
        let size = usize::from_str_radix(&size, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, size))?;
        let mut chunk = vec![0; size];
        stream.read_exact(&mut chunk).await?;
        line(stream).await?;
        Ok(chunk)
    }
}
