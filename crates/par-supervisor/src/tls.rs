//! The certificates of our door: read at the start, and again whenever their files change.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use par_gateway::Tls;
use par_model::api::TlsStatus;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tracing::{info, warn};

/// How often the files are looked at. No notification tells of every way to replace a file (links of links, as
/// Kubernetes makes them); a look at three files costs microseconds.
const LOOK: Duration = Duration::from_secs(2);

/// Whether callers are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    #[default]
    None,
    /// Who shows one is known by it.
    Optional,
    /// Nobody is let in without one.
    Required,
}

/// Where the certificates are. The key itself is never kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: Option<PathBuf>,
    pub(crate) client_auth: ClientAuth,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("failed to read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is not PEM", path.display())]
    NotPem {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("`{}` holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("`{}` holds a certificate that cannot be used", path.display())]
    BadAuthority {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("the certificates of `client_ca` cannot be used")]
    Verifier(#[source] VerifierBuilderError),
    #[error("certificate and key cannot be used together")]
    Pair(#[source] rustls::Error),
}

impl TlsFiles {
    pub(crate) fn load(&self) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&self.cert)?;
        let key = self.read_key()?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?;
        let builder = match (&self.client_ca, self.client_auth) {
            (Some(authorities), ClientAuth::Optional | ClientAuth::Required) => {
                let roots = Arc::new(roots(authorities)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match self.client_auth {
                    ClientAuth::Optional => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(TlsError::Verifier)?)
            }
            _ => builder.with_no_client_auth(),
        };
        builder.with_single_cert(chain, key).map_err(TlsError::Pair)
    }

    fn read_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let path = &self.key;
        PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|source| TlsError::NotPem {
            path: path.clone(),
            source,
        })
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cert, &self.key].into_iter().chain(&self.client_ca)
    }

    /// What changes whenever a file does.
    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.paths().map(|path| Stamp::of(path)).collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|source| TlsError::NotPem {
        path: path.to_owned(),
        source,
    })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::BadAuthority {
                path: path.to_owned(),
                source,
            })?;
    }
    Ok(roots)
}

/// One state of a file. The times of change, not of writing: those can be set back.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self {
            inode: (file.dev(), file.ino()),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

/// Keeps what callers are shown as new as its files.
pub(crate) struct Renewal {
    files: TlsFiles,
    tls: Tls,
    seen: Vec<Option<Stamp>>,
    status: watch::Sender<TlsStatus>,
}

impl Renewal {
    pub(crate) fn begin(files: TlsFiles) -> Result<Self, TlsError> {
        // Before the reading: what changes meanwhile is read again.
        let seen = files.stamps();
        let tls = Tls::new(files.load()?);
        let status = watch::Sender::new(TlsStatus {
            client_auth: files.client_auth.to_string(),
            loaded_at: now(),
            problem: None,
        });
        Ok(Self {
            files,
            tls,
            seen,
            status,
        })
    }

    pub(crate) fn tls(&self) -> Tls {
        self.tls.clone()
    }

    pub(crate) fn status(&self) -> watch::Receiver<TlsStatus> {
        self.status.subscribe()
    }

    pub(crate) async fn run(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.look();
        }
    }

    /// What cannot be used changes nothing, and is told once for each state of the files.
    fn look(&mut self) {
        let stamps = self.files.stamps();
        if stamps == self.seen {
            return;
        }
        self.seen = stamps;
        match self.files.load() {
            Ok(config) => {
                self.tls.replace(config);
                self.status.send_modify(|status| {
                    status.loaded_at = now();
                    status.problem = None;
                });
                info!("new connections see the certificate that was put in place");
            }
            Err(error) => {
                let problem = crate::chain(&error);
                warn!(%problem, "the certificates that were put in place cannot be used: the ones before stay");
                self.status
                    .send_modify(|status| status.problem = Some(problem));
            }
        }
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

impl std::fmt::Display for ClientAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    fn put(files: &TlsFiles) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(&files.cert, cert.pem()).expect("written");
        fs::write(&files.key, signing_key.serialize_pem()).expect("written");
    }

    fn files(folder: &Path) -> TlsFiles {
        TlsFiles {
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            client_ca: None,
            client_auth: ClientAuth::None,
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_refused_with_their_name_and_without_their_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(folder.path());
        let told = || crate::chain(&files.load().expect_err("refused"));
        assert!(told().contains("cert.pem"));
        put(&files);
        files.load().expect("right");
        let another = TlsFiles {
            cert: folder.path().join("other.pem"),
            key: folder.path().join("other.key"),
            ..files.clone()
        };
        put(&another);
        let mixed = TlsFiles {
            key: another.key.clone(),
            ..files.clone()
        };
        assert!(mixed.load().is_err(), "a key of another certificate");
        fs::write(&files.key, "hunter2").expect("written");
        let told = told();
        assert!(
            told.contains("key.pem") && !told.contains("hunter2"),
            "{told}"
        );
        fs::write(&files.cert, "").expect("written");
        assert!(matches!(files.load(), Err(TlsError::NoCertificate { .. })));
    }

    #[test]
    fn a_broken_file_keeps_what_was_there_and_is_told_until_it_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(folder.path());
        put(&files);
        let mut renewal = Renewal::begin(files.clone()).expect("right");
        let status = renewal.status();
        fs::write(&files.cert, "no certificate").expect("written");
        renewal.look();
        let problem = status.borrow().problem.clone().expect("a problem");
        assert!(problem.contains("cert.pem"), "{problem}");
        put(&files);
        renewal.look();
        assert_eq!(status.borrow().problem, None);
        fs::remove_file(&files.cert).expect("removed");
        renewal.look();
        assert!(status.borrow().problem.is_some());
    }
}
