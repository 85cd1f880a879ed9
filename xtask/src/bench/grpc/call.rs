//! A call over gRPC that is made again and again.

use std::net::SocketAddr;

use anyhow::ensure;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use prost::Message;

use super::channel::Channel;
use super::framing::framed;

/// One message, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(super) head: http::Request<()>,
    pub(super) body: Bytes,
}

impl Request {
    /// `agent`: who is meant, where several are served.
    pub(crate) fn new(
        path: &str,
        agent: Option<&str>,
        message: &impl Message,
    ) -> anyhow::Result<Self> {
        let mut head = http::Request::post(format!("http://localhost{path}"))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers");
        if let Some(agent) = agent {
            head = head.header("x-agent-id", agent);
        }
        Ok(Self {
            head: head.body(())?,
            body: framed(message),
        })
    }
}

/// Requests that have the same answer, for as many callers at a time, or for each caller that one.
#[derive(Clone, Debug)]
pub(crate) struct GrpcCall {
    pub(crate) address: SocketAddr,
    requests: Vec<Request>,
    /// How each answer begins. What follows differs from call to call: how long it took, how much memory.
    answer: Bytes,
}

impl GrpcCall {
    /// Calls that have not been made yet.
    pub(crate) fn of(address: SocketAddr, requests: Vec<Request>, expected: &impl Message) -> Self {
        Self {
            address,
            requests,
            answer: expected.encode_to_vec().into(),
        }
    }

    /// Makes the calls once; every answer has to begin with `expected`.
    pub(crate) async fn prove(
        address: SocketAddr,
        requests: Vec<Request>,
        expected: &impl Message,
    ) -> anyhow::Result<Self> {
        let call = Self::of(address, requests, expected);
        let channel = Channel::open(address).await?;
        for index in 0..call.requests.len() {
            call.make(&channel, index).await?;
        }
        Ok(call)
    }

    /// One call, of the caller of this number; anything but the proven answer is an error.
    pub(crate) async fn make(&self, channel: &Channel, caller: usize) -> anyhow::Result<()> {
        let request = &self.requests[caller % self.requests.len()];
        let answer = channel.call(request).await?;
        ensure!(
            answer.starts_with(&self.answer),
            "answered {}",
            answer.escape_ascii()
        );
        Ok(())
    }
}
