//! Asks the supervisor: HTTP/1.1, one connection a request, bodies streamed both ways.

mod answer;
mod credential;
mod error;
mod events;
mod multipart;
mod origin;
mod secure;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::request::Builder;
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

pub(crate) use answer::Answer;
pub(crate) use credential::{Credential, save};
pub(crate) use error::ClientError;
pub(crate) use events::{Event, Events};
pub(crate) use multipart::Upload;
pub(crate) use origin::{Origin, segment};
pub(crate) use secure::Trust;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

type Connection = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Names one supervisor; connects when asked something.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    origin: Origin,
    trust: Trust,
    credential: Option<Credential>,
}

impl Client {
    pub(crate) fn new(origin: Origin, trust: Trust, credential: Option<Credential>) -> Self {
        Self {
            origin,
            trust,
            credential,
        }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(self.request(Method::GET, path), Bytes::new())
            .await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(self.request(Method::POST, path), Bytes::new())
            .await
    }

    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).expect("our own bodies are plain JSON");
        let request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, "application/json");
        self.ask(request, body.into()).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(self.request(Method::DELETE, path), Bytes::new())
            .await
    }

    /// The beginning of a request to `path` below the supervisor's URL.
    pub(crate) fn request(&self, method: Method, path: &str) -> Builder {
        self.request_for(method, path, "application/json")
    }

    /// One whose answer shall be of `media_type`.
    pub(crate) fn request_for(&self, method: Method, path: &str, media_type: &str) -> Builder {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.origin.base_path()))
            .header(HOST, self.origin.authority())
            .header(ACCEPT, media_type);
        match &self.credential {
            Some(credential) => request.header(AUTHORIZATION, credential.header()),
            None => request,
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: Builder,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let answer = self.send(request, Full::new(body)).await?;
        answer.success().await?.json().await
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send<B>(&self, request: Builder, body: B) -> Result<Answer, ClientError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = request.body(body).map_err(ClientError::Request)?;
        let stream = self.connect().await?;
        let broken = |source| ClientError::Broken {
            url: self.origin.to_string(),
            source,
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // The answer's reader sees the same failure.
            drop(connection.await);
        });
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok(Answer::new(response, tasks, self.origin.to_string()))
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let connecting = async {
            let address = (self.origin.host(), self.origin.port());
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            if !self.origin.is_secure() {
                return Ok(Either::Left(stream));
            }
            let secured = self.trust.secure(&self.origin, stream).await?;
            Ok(Either::Right(Box::new(secured)))
        };
        let connected = timeout(CONNECT_LIMIT, connecting).await;
        let stream = connected.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
        stream.map_err(|source| ClientError::Unreachable {
            url: self.origin.to_string(),
            source,
        })
    }
}
