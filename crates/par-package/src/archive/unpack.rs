//! Writing an archive's entries into an empty folder that nobody else can reach.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::{Archive, ArchiveError, Kind};
use crate::problem::shown;

/// Whatever modes an entry asks for, it gets these. Files are not to be changed by accident; folders stay writable, for
/// else their owner could not remove them in the ordinary way.
const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o444;

impl<R: Read + Seek> Archive<R> {
    /// Unpacks everything into `folder`, which must be empty. After an error it holds a part.
    pub(crate) fn unpack(&mut self, folder: &Path) -> Result<(), ArchiveError> {
        let mut made = HashSet::new();
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            let path = entry.path.clone();
            for parent in path.parents() {
                make_folder(folder, parent, &mut made)?;
            }
            match entry.kind {
                Kind::Folder => make_folder(folder, path.as_str(), &mut made)?,
                Kind::File { .. } => {
                    let mut file = create(folder, path.as_str())?;
                    self.copy_entry(index, &mut file)?;
                }
            }
        }
        Ok(())
    }

    /// Copies one file's content, and finds out whether it is what the list said.
    pub(super) fn copy_entry(
        &mut self,
        index: usize,
        target: &mut impl Write,
    ) -> Result<(), ArchiveError> {
        let entry = &self.entries[index];
        let Kind::File { bytes: said } = entry.kind else {
            return Ok(());
        };
        let name = entry.path.as_str().to_owned();
        let dishonest = |reason: String| ArchiveError::Dishonest {
            entry: shown(&name),
            reason,
        };
        let content = self
            .zip
            .by_index(index)
            .map_err(|error| dishonest(error.to_string()))?;
        // One byte more than was said is enough to know that it lied.
        let mut content = content.take(said + 1);
        let mut buffer = [0; 32 << 10];
        let mut copied = 0_u64;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(dishonest(error.to_string())),
            };
            copied += count as u64;
            if copied > said {
                return Err(dishonest(format!("it has more than {said} bytes")));
            }
            target
                .write_all(&buffer[..count])
                .map_err(|source| ArchiveError::Write {
                    path: name.clone(),
                    source,
                })?;
        }
        if copied < said {
            return Err(dishonest(format!("it has {copied} of {said} bytes")));
        }
        Ok(())
    }
}

fn make_folder(root: &Path, path: &str, made: &mut HashSet<String>) -> Result<(), ArchiveError> {
    if !made.insert(path.to_owned()) {
        return Ok(());
    }
    let folder = root.join(path);
    DirBuilder::new()
        .mode(FOLDER_MODE)
        .create(&folder)
        .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(FOLDER_MODE)))
        .map_err(|source| ArchiveError::Write {
            path: shown(path),
            source,
        })
}

fn create(root: &Path, path: &str) -> Result<File, ArchiveError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(root.join(path))
        .and_then(|file| {
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
            Ok(file)
        })
        .map_err(|source| ArchiveError::Write {
            path: shown(path),
            source,
        })
}
