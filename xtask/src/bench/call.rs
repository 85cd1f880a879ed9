//! A call that is made again and again, and gets the same answer every time.

use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::ensure;
use serde_json::Value;

use super::connection::{Connection, ask};
use super::grpc::{Channel, GrpcCall};

/// Connections that calls over gRPC share, when there are as many at a time.
const CHANNELS: usize = 4;

#[derive(Clone)]
pub(crate) enum Call {
    Http(Rc<HttpCall>),
    Grpc(Rc<GrpcCall>),
}

impl Call {
    /// Callers, and their connections.
    pub(crate) async fn callers(&self, at_a_time: usize) -> anyhow::Result<Vec<Caller>> {
        let mut callers = vec![];
        match self {
            Self::Http(call) => {
                for _ in 0..at_a_time {
                    let connection = Connection::open(call.address).await?;
                    callers.push(Caller::Http(Rc::clone(call), connection));
                }
            }
            Self::Grpc(call) => {
                let mut channels = vec![];
                for _ in 0..at_a_time.min(CHANNELS) {
                    channels.push(Channel::open(call.address).await?);
                }
                let shared = channels.iter().cycle().take(at_a_time).enumerate();
                callers.extend(shared.map(|(number, channel)| {
                    Caller::Grpc(Rc::clone(call), channel.clone(), number)
                }));
            }
        }
        Ok(callers)
    }
}

/// Makes one call at a time.
pub(crate) enum Caller {
    Http(Rc<HttpCall>, Connection),
    /// With its number, from 0.
    Grpc(Rc<GrpcCall>, Channel, usize),
}

impl Caller {
    /// One call; anything but the proven answer is an error.
    pub(crate) async fn call(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Http(call, connection) => call.make(connection).await,
            Self::Grpc(call, channel, number) => call.make(channel, *number).await,
        }
    }
}

#[derive(Debug)]
pub(crate) struct HttpCall {
    address: SocketAddr,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl HttpCall {
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

    async fn make(&self, connection: &mut Connection) -> anyhow::Result<()> {
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
