//! Calls of our agent to other agents. They enter at the supervisor's first room, like every call.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use par_model::CallError;
use par_model::control::WorkerSpec;
use par_model::headers::{HOPS, REQUEST_TIMEOUT};
use par_protocol::frame::{self, Frame, Kind};
use par_protocol::harness::{Failure, FailureKind, Outbound};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::channel::Channel;

/// However long an agent wants to wait.
const LONGEST_CALL: Duration = Duration::from_secs(24 * 3600);
/// Largest answer of another agent, in bytes.
const LARGEST_ANSWER: usize = 64 << 20;

/// Where the supervisor is.
#[derive(Clone, Debug)]
pub(crate) enum Supervisor {
    /// The way of a supervised worker: who calls is known from this channel.
    Socket(std::path::PathBuf),
    /// The way of a worker that runs alone.
    Address(String),
}

impl Supervisor {
    pub(crate) fn of(spec: &WorkerSpec) -> Option<Self> {
        if let Some(socket) = &spec.supervisor_socket {
            return Some(Self::Socket(socket.clone()));
        }
        let address = spec.supervisor_url.strip_prefix("http://")?;
        Some(Self::Address(address.trim_end_matches('/').to_owned()))
    }
}

pub(crate) struct OutboundCall {
    pub(crate) id: u32,
    head: Outbound,
    body: Bytes,
}

impl OutboundCall {
    pub(crate) fn read(frame: Frame) -> Option<Self> {
        let (head, body) = frame::split_head(frame.body).ok()?;
        Some(Self {
            id: frame.id,
            head: serde_json::from_slice(&head).ok()?,
            body,
        })
    }

    /// The call on whose behalf this one is made; 0 when there is none.
    pub(crate) fn parent(&self) -> u32 {
        self.head.parent
    }

    /// Makes the call and answers it on the channel.
    pub(crate) async fn perform(
        self,
        supervisor: Supervisor,
        hops: u32,
        longest: Duration,
        channel: Rc<Channel>,
    ) {
        let id = self.id;
        let asked = self
            .head
            .timeout_seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let limit = asked.unwrap_or(longest).min(LONGEST_CALL);
        let answered = match timeout(limit, self.ask(&supervisor, hops, limit)).await {
            Ok(Ok((status, body))) => {
                channel.room().await;
                channel.put(id, Kind::Result, &[&status.as_u16().to_be_bytes(), &body])
            }
            Ok(Err(error)) => refuse(
                &channel,
                id,
                format!("failed to reach the supervisor: {error}"),
            ),
            Err(_elapsed) => refuse(&channel, id, format!("no answer within {limit:?}")),
        };
        answered.expect("answers are limited to less than the largest frame");
    }

    async fn ask(
        self,
        supervisor: &Supervisor,
        hops: u32,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), BoxError> {
        let request = Request::post(format!("/agents/{}{}", self.head.agent, self.head.path))
            .header(header::HOST, "supervisor")
            .header(header::CONTENT_TYPE, "application/json")
            .header(HOPS, hops)
            .header(REQUEST_TIMEOUT, limit.as_secs_f64().to_string())
            .body(Full::new(self.body))?;
        match supervisor {
            Supervisor::Socket(path) => {
                exchange(TokioIo::new(UnixStream::connect(path).await?), request).await
            }
            Supervisor::Address(address) => {
                exchange(TokioIo::new(TcpStream::connect(address).await?), request).await
            }
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange<T>(io: T, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), BoxError>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let ask = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER)
            .collect()
            .await?
            .to_bytes();
        Ok::<_, BoxError>((status, body))
    };
    tokio::pin!(ask, connection);
    tokio::select! {
        answered = &mut ask => answered,
        ended = &mut connection => {
            ended?;
            ask.await
        }
    }
}

/// Answers an outbound call as the agent that was called would have.
pub(crate) fn answer(channel: &Channel, id: u32, error: &CallError) {
    let (status, body) = (error.http_status().to_be_bytes(), error.to_json());
    channel
        .put(id, Kind::Result, &[&status, body.as_bytes()])
        .expect("a refusal is smaller than the largest frame");
}

/// Tells the agent that its call cannot be made.
pub(crate) fn refuse(channel: &Channel, id: u32, detail: String) -> Result<(), frame::FrameError> {
    let failure = Failure {
        kind: FailureKind::Unreachable,
        detail,
        traceback: None,
    };
    let body = serde_json::to_vec(&failure).expect("a failure is plain JSON");
    channel.put(id, Kind::Error, &[&body])
}
