//! A closed loop: each connection sends its next request when the answer to the last one is there and right.
//!
//! One thread sends prepared bytes and looks at no more of an answer than its status, its length and its body, because
//! the time that it takes is taken from those it measures.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;

use super::connection::{Connection, ask};
use super::statistics::{percentile, sorted};

/// Before counting begins: connections are opened and pools are filled.
pub(crate) const WARM_UP: Duration = Duration::from_millis(200);

/// A call that is made again and again, and the answer it gets every time.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    address: SocketAddr,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Call {
    /// Makes the call once; its answer has to be `expected`, in whatever way that JSON is written.
    pub(crate) async fn prove(
        address: SocketAddr,
        request: Vec<u8>,
        expected: &Value,
    ) -> anyhow::Result<Self> {
        let answer = ask(address, &request).await?;
        let value = serde_json::from_slice::<Value>(&answer.body);
        ensure!(
            answer.status == 200 && value.is_ok_and(|value| value == *expected),
            "answered {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        Ok(Self {
            address,
            request,
            answer: answer.body,
        })
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.address).await
    }

    /// One call; anything but the proven answer is an error.
    pub(crate) async fn make(&self, connection: &mut Connection) -> anyhow::Result<()> {
        let answer = connection.exchange(&self.request).await?;
        ensure!(
            answer.status == 200 && answer.body == self.answer,
            "answered {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        Ok(())
    }
}

/// What was seen in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) calls: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

pub(crate) async fn load(
    call: &Call,
    connections: usize,
    lasting: Duration,
) -> anyhow::Result<Sample> {
    let call = Rc::new(call.clone());
    let begin = Instant::now() + WARM_UP;
    let end = begin + lasting;
    let mut loops = JoinSet::new();
    for _ in 0..connections {
        loops.spawn_local(repeat(Rc::clone(&call), begin, end));
    }
    let mut latencies = vec![];
    while let Some(ended) = loops.join_next().await {
        latencies.extend(ended.context("a loop of the load panicked")??);
    }
    let latencies = sorted(latencies);
    Ok(Sample {
        calls: latencies.len(),
        per_second: latencies.len() as f64 / lasting.as_secs_f64(),
        p50_us: percentile(&latencies, 0.5),
        p99_us: percentile(&latencies, 0.99),
    })
}

/// The latencies, in microseconds, of the calls that were answered between `begin` and `end`.
async fn repeat(call: Rc<Call>, begin: Instant, end: Instant) -> anyhow::Result<Vec<f64>> {
    let mut connection = call.connect().await?;
    let mut latencies = vec![];
    let mut sent = Instant::now();
    while sent < end {
        call.make(&mut connection).await?;
        let answered = Instant::now();
        if answered >= begin && answered < end {
            latencies.push((answered - sent).as_secs_f64() * 1e6);
        }
        sent = answered;
    }
    Ok(latencies)
}
