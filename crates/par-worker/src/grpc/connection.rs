//! One HTTP/2 connection, with all its streams.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use par_door::Calm;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::authority::Tidied;
use super::route;
use crate::http::{Door, Front};

/// Calls at one time on one connection.
const MOST_STREAMS: u32 = 1024;
/// What the gateway lets in, and what it adds.
const MOST_HEADER_BYTES: u32 = 128 << 10;
/// Bytes that a call may send ahead of whoever reads them.
const STREAM_WINDOW: u32 = 256 << 10;
/// Of a caller's own connection.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Of a connection that many callers share: none of them can use it up for the others.
const SHARED_WINDOW: u32 = (1 << 31) - 1;
/// Calls given up before we got around to them: of one caller, and of many that share a connection.
const PENDING_RESETS: usize = 64;
const SHARED_PENDING_RESETS: usize = MOST_STREAMS as usize;
/// A caller that says nothing for so long is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(20);

/// Ten minutes without a call, told to half a minute.
const IDLE_LOOK: Duration = Duration::from_secs(30);
const LONGEST_IDLE_LOOKS: u32 = 20;

/// Runs what hyper wants to run beside the connection; whoever has the tracker waits for all of it.
#[derive(Clone)]
pub(super) struct Beside(pub(super) TaskTracker);

impl<F> hyper::rt::Executor<F> for Beside
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn_local(future);
    }
}

/// Runs until the caller leaves, or until its calls are over once `closed` changes.
pub(crate) async fn serve<S>(stream: S, door: Door, front: Rc<Front>, closed: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    if door.is_agents_own() {
        serve_http2(Tidied::new(stream), door, front, closed).await;
    } else if door.is_public() {
        serve_http2(Calm::new(stream), door, front, closed).await;
    } else {
        serve_http2(stream, door, front, closed).await;
    }
}

async fn serve_http2<S>(stream: S, door: Door, front: Rc<Front>, mut closed: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let streams = TaskTracker::new();
    let builder = builder(&door, streams.clone());
    let service =
        service_fn(move |request| route::answer(Rc::clone(&front), door.clone(), request));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let idle = idle_for_long(&streams);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = closed.changed() => {
            connection.as_mut().graceful_shutdown();
            poll_fn(|cx| connection.as_mut().poll(cx)).await
        }
        () = idle => {
            connection.as_mut().graceful_shutdown();
            poll_fn(|cx| connection.as_mut().poll(cx)).await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a gRPC connection broke");
    }
    streams.close();
    streams.wait().await;
}

/// Whoever has a connection and makes no call gives way to others; clients open another when they need one.
async fn idle_for_long(streams: &TaskTracker) {
    let mut idle_looks = 0;
    while idle_looks < LONGEST_IDLE_LOOKS {
        tokio::time::sleep(IDLE_LOOK).await;
        idle_looks = if streams.is_empty() {
            idle_looks + 1
        } else {
            0
        };
    }
}

fn builder(door: &Door, streams: TaskTracker) -> http2::Builder<Beside> {
    let mut builder = http2::Builder::new(Beside(streams));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(MOST_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .keep_alive_interval(Some(PING_AFTER))
        .keep_alive_timeout(PING_PATIENCE);
    if door.is_trusted() {
        // The supervisor's: it has refused floods already, and what one caller does must not end it for the others.
        builder
            .initial_connection_window_size(SHARED_WINDOW)
            .max_pending_accept_reset_streams(SHARED_PENDING_RESETS)
            .max_local_error_reset_streams(None);
    }
    builder
}
