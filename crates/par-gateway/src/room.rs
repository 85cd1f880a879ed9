//! What all connections of one thread share. Nothing in here is seen by another thread, except the published routes.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::Response;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use par_access::Verified;
use par_door::{Names, Quota};
use par_model::CallError;
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

use crate::body::ReplyBody;
use crate::control::{Control, Peer, Wake};
use crate::gate::Gate;
use crate::ledger::Ledger;
use crate::routes::Routes;
use crate::tls::Tls;
use crate::upstream::Pools;
use crate::watch::Watch;

/// What a caller may send in one call before the agent has taken any of it, and in all calls of one connection. h2 ends
/// a connection whose small messages cost it more than half of the latter, so a call must meet its own bound first.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// What may be on its way to a caller in one call.
const SEND_BUFFER: usize = 128 << 10;

/// How often a caller that speaks HTTP/2 is asked whether it is there, and how long it may take to say so.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

/// How the gateway behaves. The defaults are meant to be right.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads that serve connections.
    pub threads: usize,
    /// How long a call waits for an agent that is expected soon.
    pub hold: Duration,
    /// How long a call waits for an agent that it has woken. A deadline of the call's own that is shorter bounds both.
    pub wake: Duration,
    /// How long a caller may take to send the head of a request, and how long it may say nothing between two.
    pub header_timeout: Duration,
    /// How long a worker may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long an agent may take until its answer begins, when the caller does not say.
    pub call_timeout: Duration,
    /// How much longer than that the worker may take to say so itself, before it is given up.
    pub answer_slack: Duration,
    /// Connections at one time, for each thread. Any further one takes the place of the one that is idle longest. If
    /// none is, it is answered with 503 and closed: a caller that is told can try elsewhere, one that is left in the
    /// backlog only sees silence.
    pub max_connections: usize,
    /// Connections at one time from one address (of IPv6: one network of 64 bits), over all threads.
    pub max_connections_per_address: u32,
    /// Calls of one caller, whatever it calls.
    pub per_caller: Quota,
    /// Calls of one agent, whoever calls it.
    pub per_agent: Quota,
    /// As whom we may be asked, and by pages of whom.
    pub names: Names,
    /// How long a caller may take nothing of its answers.
    pub stall_timeout: Duration,
    /// Bytes a second that keep an upload from being given up once it has taken as long as a call without one may.
    pub slowest_upload: u32,
    /// How long a WebSocket may be silent both ways.
    pub websocket_idle: Duration,
    /// Calls at one time on one connection of a caller that speaks HTTP/2.
    pub max_concurrent_streams: u32,
    /// Whether calls that are allowed are told to the gate's owner, too.
    pub audit_calls: bool,
    pub max_headers: usize,
    pub max_header_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(4),
            hold: Duration::from_secs(2),
            wake: Duration::from_secs(30),
            header_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(60),
            answer_slack: Duration::from_secs(5),
            max_connections: 1024,
            max_connections_per_address: 512,
            per_caller: Quota {
                calls: 512,
                rate: None,
            },
            per_agent: Quota::default(),
            names: Names::default(),
            stall_timeout: Duration::from_secs(120),
            slowest_upload: 64,
            websocket_idle: Duration::from_secs(3600),
            max_concurrent_streams: 256,
            audit_calls: false,
            max_headers: 128,
            max_header_bytes: 64 << 10,
        }
    }
}

pub(crate) struct Room {
    pub(crate) config: Arc<Config>,
    pub(crate) routes: Routes,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) tls: Option<Tls>,
    pub(crate) pools: Pools,
    pub(crate) watch: Watch,
    pub(crate) gate: Gate,
    /// JWTs that this thread has verified.
    pub(crate) verified: RefCell<Verified>,
    control: Control,
    pub(crate) wake: Wake,
    pub(crate) http: http1::Builder,
}

impl Room {
    pub(crate) fn new(
        config: Arc<Config>,
        ledger: Arc<Ledger>,
        tls: Option<Tls>,
        routes: Routes,
        gate: Gate,
        control: Control,
        wake: Wake,
    ) -> Self {
        let mut http = http1::Builder::new();
        http.header_read_timeout(None) // the watch does it
            .max_headers(config.max_headers)
            .max_header_size(config.max_header_bytes)
            .max_buf_size(config.max_header_bytes.max(128 << 10));
        Self {
            watch: Watch::new(&config),
            config,
            ledger,
            tls,
            routes,
            pools: Pools::default(),
            gate,
            verified: RefCell::default(),
            control,
            wake,
            http,
        }
    }

    /// For one connection, whose calls run on `calls`.
    pub(crate) fn http2<E: Clone>(&self, calls: E) -> http2::Builder<E> {
        let max_header_bytes = u32::try_from(self.config.max_header_bytes).unwrap_or(u32::MAX);
        let mut http = http2::Builder::new(calls);
        http.timer(TokioTimer::new())
            .max_concurrent_streams(self.config.max_concurrent_streams)
            .max_header_list_size(max_header_bytes)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(SIGN_OF_LIFE)
            .keep_alive_timeout(SIGN_OF_LIFE);
        http
    }

    /// The control API works on its own runtime: it may be slow, and no call waits for it. It stops when the
    /// caller has left.
    pub(crate) async fn ask_control(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> Result<Response<ReplyBody>, CallError> {
        let answer = (self.control.answer)(request, peer);
        let answer = AbortOnDropHandle::new(self.control.runtime.spawn(answer)).await;
        let response = answer.map_err(|failure| {
            error!(%failure, "the control API gave no answer");
            CallError::Handler("the control API failed to answer".into())
        })?;
        Ok(response.map(ReplyBody::Control))
    }
}
