//! A caller and a worker that speak HTTP/2, frame by frame as the test says.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::wire::soon;
use crate::worker::Worker;

/// One connection of a caller.
pub(crate) struct Channel {
    sender: SendRequest<Bytes>,
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

impl Channel {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("a connection")).await
    }

    pub(crate) async fn through(door: &Path) -> Self {
        Self::over(UnixStream::connect(door).await.expect("a connection")).await
    }

    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = h2::client::handshake(stream).await.expect("a handshake");
        Self {
            sender,
            connection: tokio::spawn(connection),
        }
    }

    pub(crate) async fn begin(&self, request: Request<()>) -> Call {
        let mut sender = soon(self.sender.clone().ready()).await.expect("open");
        let (answer, sending) = sender.send_request(request, false).expect("begun");
        Call { answer, sending }
    }

    /// Sends all at once, and waits for all.
    pub(crate) async fn ask(&self, request: Request<()>, body: &str) -> Answered {
        let mut call = self.begin(request).await;
        call.sending
            .send_data(Bytes::from(body.to_owned()), true)
            .expect("sent");
        call.whole().await
    }
}

pub(crate) struct Call {
    pub(crate) answer: ResponseFuture,
    pub(crate) sending: SendStream<Bytes>,
}

impl Call {
    pub(crate) fn say(&mut self, words: &str) {
        let words = Bytes::from(words.to_owned());
        self.sending.send_data(words, false).expect("sent");
    }

    pub(crate) fn end(&mut self) {
        self.sending.send_data(Bytes::new(), true).expect("sent");
    }

    pub(crate) async fn head(self) -> (Response<RecvStream>, SendStream<Bytes>) {
        (soon(self.answer).await.expect("an answer"), self.sending)
    }

    pub(crate) async fn whole(self) -> Answered {
        let (response, _sending) = self.head().await;
        let (head, mut body) = response.into_parts();
        let mut text = String::new();
        while let Some(piece) = hear(&mut body).await {
            text.push_str(&piece);
        }
        let trailers = soon(body.trailers()).await.expect("an end");
        Answered {
            status: head.status.as_u16(),
            headers: head.headers,
            body: text,
            trailers: trailers.unwrap_or_default(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: HeaderMap,
}

impl Answered {
    /// Code and message, wherever they are.
    pub(crate) fn outcome(&self) -> (&str, &str) {
        let found = |name| self.trailers.get(name).or_else(|| self.headers.get(name));
        let text = |name| found(name).map_or("", |value| value.to_str().expect("text"));
        (text("grpc-status"), text("grpc-message"))
    }

    /// An answer that is all head.
    pub(crate) fn refusal(&self) -> (&str, &str) {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/grpc", "{self:?}");
        assert!(self.body.is_empty() && self.trailers.is_empty(), "{self:?}");
        self.outcome()
    }
}

/// The next piece, or none at the end of the data.
pub(crate) async fn hear(body: &mut RecvStream) -> Option<String> {
    let piece = soon(body.data()).await?.expect("a piece");
    body.flow_control()
        .release_capacity(piece.len())
        .expect("it was held");
    Some(String::from_utf8(piece.to_vec()).expect("text"))
}

/// A gRPC request for `path`.
pub(crate) fn grpc(path: &str, metadata: &[(&str, &str)]) -> Request<()> {
    let request = Request::post(format!("http://gate:8000{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let request = metadata.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    request.body(()).expect("a request")
}

impl Worker {
    pub(crate) fn grpc<F: Future<Output = ()> + Send + 'static>(
        socket: &Path,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::grpc_with(socket, server::Builder::new(), answer)
    }

    pub(crate) fn grpc_with<F: Future<Output = ()> + Send + 'static>(
        socket: &Path,
        http: server::Builder,
        answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::raw(socket, move |stream| {
            let (http, answer) = (http.clone(), answer.clone());
            async move {
                let Ok(mut connection) = http.handshake(stream).await else {
                    return;
                };
                let mut calls = JoinSet::new();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    calls.spawn(answer(request, respond));
                }
            }
        })
    }

    /// Says back each piece when it comes, and how it went at the end.
    pub(crate) fn grpc_echo(socket: &Path) -> Self {
        Self::grpc(socket, |request, mut respond| async move {
            let mut answer = respond.send_response(head(), false).expect("a head");
            let mut body = request.into_body();
            while let Some(piece) = hear(&mut body).await {
                answer.send_data(Bytes::from(piece), false).expect("sent");
            }
            answer.send_trailers(well()).expect("an end");
        })
    }

    /// Answers with its name, and with what it heard, printed.
    pub(crate) fn grpc_named(socket: &Path, name: &'static str) -> Self {
        Self::grpc(socket, move |request, mut respond| async move {
            let mut body = request.into_body();
            let mut heard = String::new();
            while let Some(piece) = hear(&mut body).await {
                heard.push_str(&piece);
            }
            let text = format!("{name} {}", heard.escape_debug());
            let mut answer = respond.send_response(head(), false).expect("a head");
            answer.send_data(Bytes::from(text), false).expect("sent");
            answer.send_trailers(well()).expect("an end");
        })
    }

    /// Answers with the target and the metadata that it was given.
    pub(crate) fn grpc_mirror(socket: &Path) -> Self {
        Self::grpc(socket, |request, mut respond| async move {
            let (head_seen, mut body) = request.into_parts();
            let mut text = format!("{} {}\n", head_seen.method, head_seen.uri);
            for (name, value) in &head_seen.headers {
                let value = String::from_utf8_lossy(value.as_bytes());
                text.push_str(&format!("{name}={value}\n"));
            }
            while hear(&mut body).await.is_some() {}
            let mut answer = respond.send_response(head(), false).expect("a head");
            answer.send_data(Bytes::from(text), false).expect("sent");
            answer.send_trailers(well()).expect("an end");
        })
    }
}

pub(crate) fn head() -> Response<()> {
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(()).expect("a response")
}

pub(crate) fn well() -> HeaderMap {
    let status = "grpc-status".parse().expect("a name");
    HeaderMap::from_iter([(status, HeaderValue::from_static("0"))])
}

/// Waits until the other end gives up the stream, and says why.
pub(crate) async fn left(sending: &mut SendStream<Bytes>) -> Reason {
    soon(std::future::poll_fn(|cx| sending.poll_reset(cx)))
        .await
        .expect("a reason")
}

/// As [`left`], before an answer was begun.
pub(crate) async fn left_early(respond: &mut SendResponse<Bytes>) -> Reason {
    soon(std::future::poll_fn(|cx| respond.poll_reset(cx)))
        .await
        .expect("a reason")
}

pub(crate) const MOMENT: Duration = Duration::from_millis(100);
