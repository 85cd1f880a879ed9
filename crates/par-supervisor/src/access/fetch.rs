//! Gets one small document, within a time and a size.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::events::webhooks::{Target, connector};

const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("failed to connect to {target}")]
    Connect {
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("`{0}` is no name that a certificate can have")]
    Name(String),
    #[error("the connection to {target} broke")]
    Broken {
        target: String,
        #[source]
        source: hyper::Error,
    },
    #[error("{0} did not answer within {PATIENCE:?}")]
    Slow(String),
    #[error("{target} answered {status}")]
    Status { target: String, status: u16 },
    #[error("{target} answered more than {LARGEST} bytes, or broke off")]
    Body { target: String },
}

/// Knows whom to trust.
pub(super) struct Fetcher {
    tls: TlsConnector,
}

impl Fetcher {
    pub(super) async fn new(is_secure: bool) -> Self {
        Self {
            tls: connector(is_secure).await,
        }
    }

    pub(super) async fn get(&self, target: &Target) -> Result<Bytes, FetchError> {
        let got = timeout(PATIENCE, self.exchange(target)).await;
        got.unwrap_or_else(|_elapsed| Err(FetchError::Slow(target.to_string())))
    }

    async fn exchange(&self, target: &Target) -> Result<Bytes, FetchError> {
        let unreached = |source| FetchError::Connect {
            target: target.to_string(),
            source,
        };
        let address = (target.host(), target.port());
        let stream = TcpStream::connect(address).await.map_err(unreached)?;
        if !target.is_secure() {
            return ask(stream, target).await;
        }
        let name = ServerName::try_from(target.host().to_owned())
            .map_err(|_| FetchError::Name(target.host().to_owned()))?;
        let stream = self.tls.connect(name, stream).await.map_err(unreached)?;
        ask(stream, target).await
    }
}

async fn ask<S>(stream: S, target: &Target) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |source| FetchError::Broken {
        target: target.to_string(),
        source,
    };
    let request = Request::get(target.path())
        .header(HOST, target.authority())
        .header(USER_AGENT, concat!("par/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .expect("a target is made of valid parts");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends with this call.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status().as_u16();
    if status != 200 {
        let target = target.to_string();
        return Err(FetchError::Status { target, status });
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    let body = body.map_err(|_| FetchError::Body {
        target: target.to_string(),
    });
    Ok(body?.to_bytes())
}
