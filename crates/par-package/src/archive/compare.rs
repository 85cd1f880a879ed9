//! Whether a folder holds what an archive would unpack to: whoever runs packages could have changed one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::{Archive, ArchiveError, Entry, Kind};

impl<R: Read + Seek> Archive<R> {
    /// The same files with the same bytes, the same folders and nothing else; modes may differ. What cannot be read
    /// is not the same.
    pub(crate) fn is_unpacked_in(&mut self, folder: &Path) -> Result<bool, ArchiveError> {
        if !Tree::of(&self.entries).is_in(folder).unwrap_or(false) {
            return Ok(false);
        }
        for index in 0..self.entries.len() {
            let Entry { path, kind } = &self.entries[index];
            let Kind::File { bytes } = *kind else {
                continue;
            };
            let Ok(stored) = open(&folder.join(path), bytes) else {
                return Ok(false);
            };
            match self.copy_entry(index, &mut Comparison(stored)) {
                Ok(()) => {}
                Err(ArchiveError::Write { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Every path that unpacking makes.
struct Tree<'a> {
    files: HashSet<&'a str>,
    folders: HashSet<&'a str>,
}

impl<'a> Tree<'a> {
    fn of(entries: &'a [Entry]) -> Self {
        let mut files = HashSet::new();
        let mut folders = HashSet::new();
        for entry in entries {
            folders.extend(entry.path.parents());
            match entry.kind {
                Kind::File { .. } => files.insert(entry.path.as_str()),
                Kind::Folder => folders.insert(entry.path.as_str()),
            };
        }
        Self { files, folders }
    }

    /// Follows no link, and goes no further than the first thing that does not belong there.
    fn is_in(&self, root: &Path) -> io::Result<bool> {
        if !fs::symlink_metadata(root)?.is_dir() {
            return Ok(false);
        }
        let mut found = 0;
        let mut unread = vec![PathBuf::new()];
        while let Some(folder) = unread.pop() {
            for entry in fs::read_dir(root.join(&folder))? {
                let entry = entry?;
                let path = folder.join(entry.file_name());
                let kind = entry.file_type()?;
                let Some(name) = path.to_str() else {
                    return Ok(false);
                };
                if kind.is_dir() && self.folders.contains(name) {
                    unread.push(path);
                } else if !(kind.is_file() && self.files.contains(name)) {
                    return Ok(false);
                }
                found += 1;
            }
        }
        Ok(found == self.files.len() + self.folders.len())
    }
}

fn open(path: &Path, bytes: u64) -> io::Result<File> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() || metadata.len() != bytes {
        return Err(io::Error::other("it is another file"));
    }
    File::open(path)
}

/// Takes only the bytes that the file goes on with.
struct Comparison(File);

impl Write for Comparison {
    fn write(&mut self, expected: &[u8]) -> io::Result<usize> {
        let mut stored = vec![0; expected.len()];
        self.0.read_exact(&mut stored)?;
        if stored == expected {
            Ok(expected.len())
        } else {
            Err(io::Error::other("it has other bytes"))
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
