//! One HTTP/2 connection, with all its streams.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::authority::Tidied;
use super::route;
use crate::http::{Door, Front};

/// Calls at one time on one connection.
const MOST_STREAMS: u32 = 1024;
const MOST_HEADER_BYTES: u32 = 64 << 10;
/// Bytes that a caller may send ahead of whoever reads them.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A caller that says nothing for so long is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(20);

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
    match door.is_agents_own() {
        true => serve_http2(Tidied::new(stream), door, front, closed).await,
        false => serve_http2(stream, door, front, closed).await,
    }
}

async fn serve_http2<S>(stream: S, door: Door, front: Rc<Front>, mut closed: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let streams = TaskTracker::new();
    let service =
        service_fn(move |request| route::answer(Rc::clone(&front), door.clone(), request));
    let connection = http2::Builder::new(Beside(streams.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(MOST_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(Some(PING_AFTER))
        .keep_alive_timeout(PING_PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = closed.changed() => {
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
