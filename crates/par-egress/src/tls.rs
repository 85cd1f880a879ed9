//! TLS that the proxy speaks for an agent.

use std::io;
use std::sync::Arc;

use par_model::network::Host;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// Whose certificates are believed.
#[derive(Clone)]
pub enum Trust {
    /// Those that this machine trusts; `SSL_CERT_FILE` names others.
    Machine,
    These(RootCertStore),
}

/// Read when they are needed first.
pub(crate) struct Tls {
    trust: Trust,
    connector: OnceCell<TlsConnector>,
}

impl Tls {
    pub(crate) fn trusting(trust: Trust) -> Self {
        Self {
            trust,
            connector: OnceCell::new(),
        }
    }

    pub(crate) async fn connect<S>(&self, host: &Host, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
            Host::Address(address) => ServerName::from(*address),
        };
        self.connector().await?.connect(name, stream).await
    }

    async fn connector(&self) -> io::Result<&TlsConnector> {
        let make = || async {
            let roots = match &self.trust {
                Trust::These(roots) => roots.clone(),
                Trust::Machine => tokio::task::spawn_blocking(machine_roots).await?,
            };
            let provider = Arc::new(ring::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring has the usual versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(TlsConnector::from(Arc::new(config)))
        };
        self.connector.get_or_try_init(make).await
    }
}

fn machine_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::warn!(%error, "certificates of this machine could not be read");
    }
    let mut roots = RootCertStore::empty();
    let (_usable, odd) = roots.add_parsable_certificates(found.certs);
    if odd > 0 {
        tracing::debug!(odd, "certificates that are not understood are not trusted");
    }
    roots
}
