//! A folder becomes an APKG, byte for byte the same wherever and whenever it is packed.

mod walk;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::entry_path::{EntryPath, InvalidPath};
use crate::papers::{DOTENV, FolderError, Papers};
use crate::problem::Problems;
use crate::{Limits, manifest};

/// What the kits write beside the manifest, and we when it is not there.
pub(crate) const PACKAGE_JSON: &str = ".pixell/package.json";
/// How we sign it.
pub(crate) const CREATED_BY: &str = "par";

/// A package that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// `name@version`
    pub label: String,
    pub entries: usize,
    /// Of the package itself.
    pub bytes: u64,
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error(transparent)]
    Invalid(#[from] Problems),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("failed to read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{0}` is a symbolic link; packages hold plain files only")]
    Link(String),
    #[error("`{0}` is neither a file nor a folder")]
    SpecialFile(String),
    #[error("the name of `{}` is not UTF-8", .0.display())]
    NameNotUtf8(PathBuf),
    #[error(transparent)]
    Path(#[from] InvalidPath),
    #[error("the folder has more than {limit} files, or folders deeper than {depth} levels")]
    TooManyFiles { limit: u64, depth: usize },
    #[error("the package would be larger than its limits allow: {unpacked} bytes, {packed} packed")]
    TooLarge { unpacked: u64, packed: u64 },
    #[error("failed to write the package")]
    Write(#[source] io::Error),
}

impl PackError {
    fn of_zip(error: ZipError) -> Self {
        Self::Write(error.into())
    }
}

/// Checks the folder's manifest and writes everything in the folder but version control and caches.
pub fn pack(folder: &Path, out: impl Write + Seek, limits: &Limits) -> Result<Packed, PackError> {
    let papers = Papers::in_folder(folder, limits)?;
    let meaning = papers.understand(limits)?;
    let files = walk::files(folder, limits)?;
    let mut warnings = meaning.warnings;
    if papers.dotenv.is_some() {
        warnings.push(format!(
            "{DOTENV} is packed: whoever has the package can read it"
        ));
    }
    let description = match papers.manifest {
        Some(bytes) if !files.iter().any(|path| path.as_str() == PACKAGE_JSON) => {
            Some(describe(&bytes, limits)?)
        }
        _ => None,
    };
    let entries = files.len() + usize::from(description.is_some());
    let (unpacked, packed) = write(folder, files, description, out, limits)?;
    if packed > limits.packed_bytes || unpacked > limits.unpacked_allowance(packed) {
        return Err(PackError::TooLarge { unpacked, packed });
    }
    Ok(Packed {
        label: meaning.manifest.label(),
        entries,
        bytes: packed,
        warnings,
    })
}

/// Without a time, unlike what the kits write, so that it is the same tomorrow.
fn describe(manifest: &[u8], limits: &Limits) -> Result<String, PackError> {
    let description = json!({
        "format_version": "1.0",
        "created_by": CREATED_BY,
        "manifest": manifest::as_json(manifest, limits)?,
    });
    Ok(format!("{description:#}\n"))
}

/// Answers the bytes of all files, and of the package.
fn write(
    folder: &Path,
    mut files: Vec<EntryPath>,
    description: Option<String>,
    out: impl Write + Seek,
    limits: &Limits,
) -> Result<(u64, u64), PackError> {
    let generated: Option<EntryPath> = description
        .as_ref()
        .map(|_| PACKAGE_JSON.parse())
        .transpose()?;
    files.extend(generated.clone());
    files.sort_unstable();
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(6))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    let mut zip = ZipWriter::new(out);
    let mut unpacked = 0_u64;
    for path in &files {
        zip.start_file(path.as_str(), options)
            .map_err(PackError::of_zip)?;
        unpacked += match &description {
            Some(text) if generated.as_ref() == Some(path) => {
                zip.write_all(text.as_bytes()).map_err(PackError::Write)?;
                text.len() as u64
            }
            _ => copy(
                &folder.join(path),
                limits.unpacked_bytes - unpacked.min(limits.unpacked_bytes),
                &mut zip,
            )?,
        };
        if unpacked > limits.unpacked_bytes {
            return Err(PackError::TooLarge {
                unpacked,
                packed: 0,
            });
        }
    }
    let mut out = zip.finish().map_err(PackError::of_zip)?;
    let packed = out.stream_position().map_err(PackError::Write)?;
    Ok((unpacked, packed))
}

/// Copies at most one byte more than `allowed`: enough to see that the file is too large.
fn copy(path: &Path, allowed: u64, out: &mut impl Write) -> Result<u64, PackError> {
    let unreadable = |source| PackError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?.take(allowed + 1);
    let mut buffer = [0; 32 << 10];
    let mut copied = 0_u64;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        out.write_all(&buffer[..count]).map_err(PackError::Write)?;
        copied += count as u64;
    }
}
