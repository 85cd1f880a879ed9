//! From a first `Execute` with a new session's id to its answer.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Backend, SessionMemory, addition, sum};
use crate::bench::extent::Extent;
use crate::bench::grpc::GrpcCall;
use crate::bench::progress;
use crate::bench::statistics::Spread;

/// As many as are begun one after the other.
pub(crate) const MANY: usize = 50;
/// As many as are begun at once: more than there are interpreters ready.
pub(crate) const AT_ONCE: usize = 16;
/// Interpreters that were taken have successors by then.
const REST: Duration = Duration::from_millis(200);

#[derive(Serialize)]
pub(crate) struct NewSessions {
    /// Each when interpreters are ready.
    pub(crate) rested: Spread,
    /// Each at once after the one before; all are left there.
    pub(crate) one_after_the_other: Spread,
    /// Of many, all begun in one moment.
    pub(crate) at_once: Spread,
}

/// With what sessions take that have nothing to do.
pub(super) async fn measure(
    backend: &Backend,
    extent: &Extent,
) -> anyhow::Result<(NewSessions, SessionMemory)> {
    progress("execution: new sessions")?;
    let mut rested = vec![];
    for number in 0..extent.sessions {
        tokio::time::sleep(REST).await;
        let session = format!("rested-{number}");
        rested.push(begin(backend, &session).await?);
        backend.end_session(&session).await?;
    }
    tokio::time::sleep(REST).await;
    let mut one_after_the_other = vec![];
    for number in 0..MANY {
        one_after_the_other.push(begin(backend, &format!("kept-{number}")).await?);
    }
    let memory = backend.memory(MANY).await?;
    for number in 0..MANY {
        backend.end_session(&format!("kept-{number}")).await?;
    }
    let mut at_once = vec![];
    for burst in 0..extent.bursts {
        tokio::time::sleep(REST).await;
        at_once.extend(begin_at_once(backend, burst).await?);
    }
    let new_sessions = NewSessions {
        rested: Spread::of(&rested),
        one_after_the_other: Spread::of(&one_after_the_other),
        at_once: Spread::of(&at_once),
    };
    Ok((new_sessions, memory))
}

async fn begin(backend: &Backend, session: &str) -> anyhow::Result<Duration> {
    let call = GrpcCall::of(backend.grpc, vec![addition(session)?], &sum());
    let began = Instant::now();
    call.make(&backend.channel, 0).await?;
    Ok(began.elapsed())
}

async fn begin_at_once(backend: &Backend, burst: usize) -> anyhow::Result<Vec<Duration>> {
    let sessions: Vec<String> = (0..AT_ONCE)
        .map(|number| format!("burst-{burst}-{number}"))
        .collect();
    let requests = sessions.iter().map(|session| addition(session));
    let requests = requests.collect::<anyhow::Result<_>>()?;
    let call = Rc::new(GrpcCall::of(backend.grpc, requests, &sum()));
    let mut running = JoinSet::new();
    let began = Instant::now();
    for number in 0..AT_ONCE {
        let (call, channel) = (Rc::clone(&call), backend.channel.clone());
        running.spawn_local(async move {
            call.make(&channel, number).await?;
            anyhow::Ok(began.elapsed())
        });
    }
    let mut times = vec![];
    while let Some(ended) = running.join_next().await {
        times.push(ended.context("a new session panicked")??);
    }
    for session in &sessions {
        backend.end_session(session).await?;
    }
    Ok(times)
}
