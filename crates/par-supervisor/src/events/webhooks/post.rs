//! One signed request, on a connection of its own.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::super::blocking;
use super::signature::Secret;
use super::target::Target;

/// Of an answer's body, which nobody is interested in.
const LARGEST_ANSWER: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("failed to connect")]
    Connect(#[source] io::Error),
    #[error("no secure connection can be made")]
    Secure(#[source] io::Error),
    #[error("`{0}` is no name that a certificate can have")]
    Name(String),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("the request cannot be written")]
    Request(#[from] http::Error),
}

/// An event as it is sent.
pub(super) struct Signed {
    id: String,
    timestamp: u64,
    signature: String,
    body: Bytes,
}

impl Signed {
    pub(super) fn now(id: &str, body: &Bytes, secret: &Secret, timestamp: u64) -> Self {
        Self {
            id: id.to_owned(),
            timestamp,
            signature: secret.sign(id, timestamp, body),
            body: body.clone(),
        }
    }

    fn request(self, target: &Target) -> Result<Request<Full<Bytes>>, http::Error> {
        Request::builder()
            .method(Method::POST)
            .uri(&target.path)
            .header(HOST, &target.authority)
            .header(USER_AGENT, concat!("par/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", self.id)
            .header("webhook-timestamp", self.timestamp)
            .header("webhook-signature", self.signature)
            .body(Full::new(self.body))
    }
}

/// Knows whom to trust.
pub(super) struct Poster {
    tls: TlsConnector,
}

impl Poster {
    /// Reads the machine's certificates if one of the targets needs them.
    pub(super) async fn for_targets(mut targets: impl Iterator<Item = &Target>) -> Self {
        Self {
            tls: connector(targets.any(|target| target.is_secure)).await,
        }
    }

    #[cfg(test)]
    fn trusting(roots: RootCertStore) -> Self {
        Self {
            tls: trusting(roots),
        }
    }

    /// The status that was answered.
    pub(super) async fn post(&self, target: &Target, signed: Signed) -> Result<u16, PostError> {
        let request = signed.request(target)?;
        let stream = TcpStream::connect((target.host.as_str(), target.port))
            .await
            .map_err(PostError::Connect)?;
        if !target.is_secure {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| PostError::Name(target.host.clone()))?;
        let stream = self.tls.connect(name, stream).await;
        exchange(stream.map_err(PostError::Secure)?, request).await
    }
}

/// Trusts whom this machine trusts, if that will be needed.
pub(crate) async fn connector(is_needed: bool) -> TlsConnector {
    trusting(match is_needed {
        true => blocking(machine_roots).await,
        false => RootCertStore::empty(),
    })
}

fn trusting(roots: RootCertStore) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the usual versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<u16, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with this call.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    // Read for politeness: a receiver that is still writing sees no broken connection.
    let _whatever_it_says = Limited::new(answer.into_body(), LARGEST_ANSWER)
        .collect()
        .await;
    Ok(status)
}

fn machine_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the machine's certificates cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (usable, _unusable) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        tracing::warn!("this machine trusts no certificates: nobody can be reached by https");
    }
    roots
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;

    /// Answers one request over TLS, with a certificate of its own for `localhost`.
    async fn receiver() -> (u16, RootCertStore, tokio::task::JoinHandle<()>) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).expect("usable");
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::Pkcs8(key))
            .expect("usable");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let answering = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let acceptor = TlsAcceptor::from(Arc::new(config));
            // Whoever does not trust us leaves here.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.expect("a request");
            assert!(buffer[..read].starts_with(b"POST /hook HTTP/1.1\r\n"));
            let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.expect("written");
            stream.flush().await.expect("written");
        });
        (port, roots, answering)
    }

    async fn post_to(host: &str, port: u16, roots: RootCertStore) -> Result<u16, PostError> {
        let target: Target = format!("https://{host}:{port}/hook")
            .parse()
            .expect("a URL");
        let secret = "secret".parse().expect("a secret");
        let signed = Signed::now("evt_1", &Bytes::from_static(b"{}"), &secret, 1);
        Poster::trusting(roots).post(&target, signed).await
    }

    #[tokio::test]
    async fn a_receiver_with_a_certificate_that_is_trusted_is_told() {
        let (port, roots, answering) = receiver().await;
        let status = post_to("localhost", port, roots).await;
        assert_eq!(status.expect("an answer"), 202);
        answering.await.expect("it saw the request");
    }

    #[tokio::test]
    async fn a_receiver_that_nobody_vouches_for_is_told_nothing() {
        let (port, _, answering) = receiver().await;
        let refused = post_to("localhost", port, RootCertStore::empty()).await;
        assert!(matches!(refused, Err(PostError::Secure(_))), "{refused:?}");
        answering.await.expect("it saw nothing");
        let (port, roots, answering) = receiver().await;
        let refused = post_to("127.0.0.1", port, roots).await;
        assert!(matches!(refused, Err(PostError::Secure(_))), "{refused:?}");
        answering.await.expect("it saw nothing");
    }
}
