//! Why a package was not taken in.

use std::io;
use std::path::PathBuf;

use crate::archive::ArchiveError;
use crate::papers::FolderError;
use crate::problem::Problems;

#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("failed to open the package `{}`", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the package `{}` is not a file", .0.display())]
    NotAFile(PathBuf),
    #[error("the package is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Every mistake of `agent.yaml` and the files beside it.
    #[error(transparent)]
    Invalid(#[from] Problems),
    #[error("failed to use the package store at `{}`", path.display())]
    Store {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is not a folder of the package store", .0.display())]
    NotStored(PathBuf),
    #[error("failed to read the stored package `{}`", root.display())]
    Reopen {
        root: PathBuf,
        #[source]
        source: Box<PackageError>,
    },
    #[error("failed to read the package's folder")]
    Folder(#[from] FolderError),
}

impl PackageError {
    /// Whether the package, or the path to it, is at fault: the caller's mistake, not the machine's.
    pub fn blames_the_package(&self) -> bool {
        match self {
            Self::Open { .. } | Self::NotAFile(_) | Self::TooLarge { .. } | Self::Invalid(_) => {
                true
            }
            Self::Archive(error) => !error.is_ours(),
            Self::Store { .. } | Self::NotStored(_) | Self::Reopen { .. } | Self::Folder(_) => {
                false
            }
        }
    }
}
