//! How a package comes in: a file or folder of this machine, or an upload, becomes a verified package in the store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use par_package::{Limits, Package, PackageError, Store};

#[derive(Clone)]
pub(crate) struct Intake {
    store: Arc<Store>,
    limits: Limits,
    uploads: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error("`{}` is not there", .0.display())]
    Missing(PathBuf),
    #[error(transparent)]
    Package(PackageError),
    #[error("failed to pack the folder `{}`", path.display())]
    Pack {
        path: PathBuf,
        #[source]
        source: par_package::PackError,
    },
    #[error("the package is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("failed to take the package in")]
    Io(#[from] io::Error),
}

impl IntakeError {
    /// Whether whoever sent the package can mend it.
    pub(crate) fn blames_the_package(&self) -> bool {
        match self {
            Self::Package(error) => error.blames_the_package(),
            Self::Missing(_) | Self::Pack { .. } | Self::TooLarge { .. } => true,
            Self::Io(_) => false,
        }
    }
}

impl Intake {
    pub(crate) fn new(store: Store, uploads: PathBuf) -> Self {
        Self {
            store: Arc::new(store),
            limits: Limits::default(),
            uploads,
        }
    }

    pub(crate) fn largest(&self) -> u64 {
        self.limits.packed_bytes
    }

    /// Where an upload is written before it is checked; gone when dropped.
    pub(crate) fn upload(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new()
            .suffix(".apkg")
            .tempfile_in(&self.uploads)
    }

    /// Checks and unpacks; blocks for as long as that takes.
    pub(crate) fn admit(&self, path: &Path) -> Result<Package, IntakeError> {
        if !path.is_dir() {
            return match path.try_exists() {
                Ok(true) => self
                    .store
                    .admit(path, &self.limits)
                    .map_err(IntakeError::Package),
                _ => Err(IntakeError::Missing(path.to_owned())),
            };
        }
        let packed = self.upload()?;
        par_package::pack(path, packed.as_file(), &self.limits).map_err(|source| {
            IntakeError::Pack {
                path: path.to_owned(),
                source,
            }
        })?;
        self.store
            .admit(packed.path(), &self.limits)
            .map_err(IntakeError::Package)
    }

    pub(crate) async fn admit_in_the_background(
        &self,
        path: PathBuf,
    ) -> Result<Package, IntakeError> {
        let intake = self.clone();
        tokio::task::spawn_blocking(move || intake.admit(&path))
            .await
            .map_err(io::Error::other)?
    }
}
