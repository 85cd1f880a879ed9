//! Everything for which an archive is refused, one variant each.

use std::io;

use zip::result::ZipError;

use crate::entry_path::InvalidPath;
use crate::papers::MANIFEST;

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("failed to read the package")]
    Read(#[source] io::Error),
    #[error("failed to write `{path}`")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("not a package: the file is no zip archive, or is cut off")]
    NotAZip,
    #[error("not a package: the archive is damaged: {0}")]
    Damaged(String),
    #[error("not a package: the archive is empty")]
    Empty,
    #[error("`{MANIFEST}` is not at the root of the package")]
    NoManifest,
    #[error(
        "`{MANIFEST}` is not at the root of the package but in `{folder}/`: pack the folder's content, not the folder"
    )]
    ManifestInFolder { folder: String },
    #[error("`{MANIFEST}` is not at the root of the package; `{found}` is not the same name")]
    ManifestMisspelt { found: String },
    #[error("the package has {entries} entries; the limit is {limit}")]
    TooManyEntries { entries: u64, limit: u64 },
    #[error("the package would unpack to {bytes} bytes; for its size the limit is {limit}")]
    TooLarge { bytes: u64, limit: u64 },
    #[error("entry `{entry}` has {bytes} bytes; the limit is {limit}")]
    FileTooLarge {
        entry: String,
        bytes: u64,
        limit: u64,
    },
    #[error("an entry's name is not UTF-8: `{0}`")]
    NameNotUtf8(String),
    #[error(transparent)]
    Path(#[from] InvalidPath),
    #[error("entry `{entry}` lies deeper than {limit} folders")]
    TooDeep { entry: String, limit: usize },
    #[error("an entry's path of {bytes} bytes is too long; the limit is {limit}")]
    PathTooLong { bytes: usize, limit: usize },
    #[error("entry `{0}` is there twice")]
    Duplicate(String),
    #[error("`{0}` is both a file and a folder")]
    FileAndFolder(String),
    #[error("entry `{entry}` is {kind}; only files and folders are allowed")]
    SpecialFile { entry: String, kind: &'static str },
    #[error("entry `{0}` is encrypted")]
    Encrypted(String),
    #[error("entry `{0}` is compressed in an unusual way; use deflate or store")]
    UnknownCompression(String),
    #[error("entry `{entry}` is not what it says: {reason}")]
    Dishonest { entry: String, reason: String },
}

impl ArchiveError {
    /// Whether the machine failed, not the package.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Write { .. })
    }

    pub(super) fn of_zip(error: ZipError) -> Self {
        match error {
            ZipError::Io(error)
                if error.kind() != io::ErrorKind::UnexpectedEof
                    && error.kind() != io::ErrorKind::InvalidData =>
            {
                Self::Read(error)
            }
            other => Self::Damaged(other.to_string()),
        }
    }
}
