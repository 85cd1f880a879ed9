//! TLS in front of the public door: a handshake on the thread that serves the connection, with a deadline.
//!
//! What is shown to callers may change while we serve: connections that come later see the new certificate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection};
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::sniff::Protocol;

/// For all messages of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Longer than any name that somebody would give; it is shown in logs.
const LONGEST_NAME: usize = 255;

const H2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// What callers are shown, and what is asked of them. A copy is the same.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    pub fn new(config: ServerConfig) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(offering(config))))
    }

    /// For connections that come from now on.
    pub fn replace(&self, config: ServerConfig) {
        self.0.store(Arc::new(offering(config)));
    }
}

fn offering(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1.to_vec()];
    config
}

/// A connection on which both sides have proven what they had to.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) protocol: Protocol,
    pub(crate) certificate: Option<Arc<str>>,
}

pub(crate) async fn secure(tls: &Tls, stream: TcpStream) -> io::Result<Secured> {
    let acceptor = TlsAcceptor::from(tls.0.load_full());
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time");
    let accepted = timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = accepted.map_err(late)??;
    let (_, session) = stream.get_ref();
    Ok(Secured {
        protocol: match session.alpn_protocol() {
            Some(H2) => Protocol::Http2,
            _ => Protocol::Http1,
        },
        certificate: certified(session)?,
        stream,
    })
}

/// None if no certificate was asked for or shown. One that was verified and names nobody is of no use.
fn certified(session: &ServerConnection) -> io::Result<Option<Arc<str>>> {
    let Some(shown) = session.peer_certificates().and_then(<[_]>::first) else {
        return Ok(None);
    };
    let nameless = || io::Error::other("the caller's certificate has no name that can be used");
    name_of(shown).map(Some).ok_or_else(nameless)
}

/// The first name of the subject: a URI (SPIFFE), a DNS name or an e-mail address, else its common name.
fn name_of(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()?;
    let alternatives = alternatives.map(|found| &found.value.general_names[..]);
    let alternatives = alternatives.unwrap_or_default();
    let first = |kind: fn(&GeneralName<'_>) -> Option<String>| alternatives.iter().find_map(kind);
    let common = || {
        let mut names = certificate.subject().iter_common_name();
        names.next()?.as_str().ok().map(str::to_owned)
    };
    let name = first(uri)
        .or_else(|| first(dns))
        .or_else(|| first(email))
        .or_else(common)?;
    let fits = name.len() <= LONGEST_NAME
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ');
    (fits && !name.is_empty()).then(|| name.into())
}

fn uri(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    }
}

fn dns(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    }
}

fn email(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::RFC822Name(address) => Some((*address).to_owned()),
        _ => None,
    }
}
