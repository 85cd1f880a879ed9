//! One HTTP/2 connection, on which calls are made.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpStream;

use super::call::Request;
use super::framing::Unread;

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// A connection; its clones are the same one.
#[derive(Clone)]
pub(crate) struct Channel {
    requests: SendRequest<Bytes>,
}

impl Channel {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let what = || format!("failed to connect to {address}");
        let stream = TcpStream::connect(address).await.with_context(what)?;
        stream.set_nodelay(true)?;
        let (requests, connection) = h2::client::handshake(stream).await.with_context(what)?;
        // It ends with its last handle, and a broken one fails the calls that are on it.
        tokio::task::spawn_local(connection);
        Ok(Self { requests })
    }

    /// Sends a request, and waits for the beginning of its answer.
    pub(crate) async fn ask(&self, request: &Request) -> anyhow::Result<Answer> {
        let mut requests = self.requests.clone().ready().await?;
        let (answer, mut body) = requests.send_request(request.head.clone(), false)?;
        body.send_data(request.body.clone(), true)?;
        let (head, body) = answer.await?.into_parts();
        ensure!(head.status == StatusCode::OK, "answered {}", head.status);
        if head.headers.contains_key(STATUS) {
            is_well(&head.headers)?;
        }
        Ok(Answer {
            body,
            unread: Unread::default(),
        })
    }

    /// One message out, one message in.
    pub(crate) async fn call(&self, request: &Request) -> anyhow::Result<Bytes> {
        let mut answer = self.ask(request).await?;
        let message = answer.next().await?.context("no message was answered")?;
        ensure!(answer.next().await?.is_none(), "more came than one message");
        Ok(message)
    }
}

/// The messages of an answer, as they come.
pub(crate) struct Answer {
    body: RecvStream,
    unread: Unread,
}

impl Answer {
    /// The next message, none at the end of a call that went well.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            if let Some(message) = self.unread.take()? {
                return Ok(Some(message));
            }
            let Some(piece) = self.body.data().await else {
                ensure!(self.unread.is_empty(), "it ends within a message");
                let trailers = self.body.trailers().await?;
                is_well(&trailers.context("it ends without trailers")?)?;
                return Ok(None);
            };
            let piece = piece?;
            self.body.flow_control().release_capacity(piece.len())?;
            self.unread.put(&piece);
        }
    }
}

fn is_well(headers: &HeaderMap) -> anyhow::Result<()> {
    let said = |name| {
        let value = headers.get(name).map(|value| value.as_bytes());
        String::from_utf8_lossy(value.unwrap_or_default())
    };
    let (status, message) = (said(STATUS), said(MESSAGE));
    ensure!(status == "0", "answered with status {status}: {message}");
    Ok(())
}
