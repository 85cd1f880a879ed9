//! From a `StreamExecute` to the first thing that its code says, which goes on running.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use prost::Message as _;

use super::Backend;
use crate::bench::extent::Extent;
use crate::bench::grpc::Request;
use crate::bench::grpc::messages::{ExecuteRequest, STREAM_EXECUTE, StreamChunk};
use crate::bench::progress;
use crate::bench::statistics::Spread;

const CODE: &str = "import time\nprint('x')\ntime.sleep(0.02)\n";
/// The code still ran when its words came.
const RAN_ON: Duration = Duration::from_millis(10);
/// Runs before counting begins.
const WARM_UP: usize = 3;

pub(super) async fn measure(backend: &Backend, extent: &Extent) -> anyhow::Result<Spread> {
    progress("execution: first chunk")?;
    let asked = ExecuteRequest {
        code: CODE.to_owned(),
        session_id: "streams".to_owned(),
    };
    let request = Request::new(STREAM_EXECUTE, None, &asked)?;
    let mut times = vec![];
    for _ in 0..WARM_UP + extent.streams {
        times.push(run(backend, &request).await?);
    }
    Ok(Spread::of(&times[WARM_UP..]))
}

async fn run(backend: &Backend, request: &Request) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut answer = backend.channel.ask(request).await?;
    let first = answer.next().await?.context("nothing was streamed")?;
    let took = began.elapsed();
    let first = StreamChunk::decode(first)?;
    ensure!(
        first.kind == StreamChunk::STDOUT && first.data.starts_with(b"x"),
        "the first chunk is {first:?}"
    );
    let mut last = first;
    while let Some(chunk) = answer.next().await? {
        last = StreamChunk::decode(chunk)?;
    }
    ensure!(
        last.kind == StreamChunk::RESULT,
        "the last chunk is {last:?}"
    );
    let ran_on = began.elapsed() - took;
    ensure!(ran_on >= RAN_ON, "words came {ran_on:?} before the end");
    Ok(took)
}
