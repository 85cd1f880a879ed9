//! Folders that are to be removed: moved aside at once, deleted in the background.
//!
//! What an agent left there may be of any size and depth. So folders within folders are moved up, next to each
//! other, until each holds files alone: no path grows long, and no file descriptor is held a level.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const PREFIX: &str = ".gone-";

/// A folder of ours whose content, folders named by numbers, nobody needs any more.
#[derive(Debug)]
pub(crate) struct Gone(PathBuf);

impl Gone {
    /// Moves `folder` aside, to `beside`, which is on the same file system. `None` when it is not there.
    pub(crate) fn aside(folder: &Path, beside: &Path) -> io::Result<Option<Self>> {
        if !folder.try_exists()? {
            return Ok(None);
        }
        let aside = tempfile::Builder::new().prefix(PREFIX).tempdir_in(beside)?;
        std::fs::rename(folder, aside.path().join("0"))?;
        Ok(Some(Self(aside.keep())))
    }

    /// Those in `beside` that an earlier life did not get to delete.
    pub(crate) fn left_in(beside: &Path) -> io::Result<Vec<Self>> {
        let mut left = vec![];
        for entry in std::fs::read_dir(beside)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                left.push(Self(entry.path()));
            }
        }
        Ok(left)
    }

    /// Deletes it; blocks for as long as that takes.
    pub(crate) fn delete(self) -> io::Result<()> {
        let mut waiting: Vec<u64> = vec![];
        for entry in std::fs::read_dir(&self.0)? {
            waiting.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<u64>().ok()),
            );
        }
        let mut next = waiting.iter().max().map_or(0, |last| last + 1);
        while let Some(number) = waiting.pop() {
            let folder = self.numbered(number);
            make_ours(&folder)?;
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                if !entry.file_type()?.is_dir() {
                    std::fs::remove_file(entry.path())?;
                    continue;
                }
                make_ours(&entry.path())?;
                std::fs::rename(entry.path(), self.numbered(next))?;
                waiting.push(next);
                next += 1;
            }
            std::fs::remove_dir(folder)?;
        }
        std::fs::remove_dir(self.0)
    }

    fn numbered(&self, number: u64) -> PathBuf {
        self.0.join(number.to_string())
    }
}

/// An agent may have made a folder read-only, which keeps its content from being removed and it from being moved.
fn make_ours(folder: &Path) -> io::Result<()> {
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }

    /// A folder whose paths are longer than any path may be, and deeper than files may be open.
    fn deep(top: &Path) {
        let mut below = rustix::fs::open(
            top,
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .expect("a folder");
        let name = "x".repeat(200);
        for _ in 0..1100 {
            rustix::fs::mkdirat(&below, &name, rustix::fs::Mode::RWXU).expect("made");
            below = rustix::fs::openat(
                &below,
                &name,
                rustix::fs::OFlags::DIRECTORY,
                rustix::fs::Mode::empty(),
            )
            .expect("a folder");
        }
    }

    #[test]
    fn what_is_gone_is_gone_at_once_and_deleted_however_deep_and_guarded_it_is() {
        let beside = tempfile::tempdir().expect("a temporary folder");
        let outside = tempfile::NamedTempFile::new().expect("a temporary file");
        let folder = beside.path().join("agent");
        std::fs::create_dir_all(folder.join("guarded/below")).expect("made");
        std::fs::write(folder.join("guarded/file"), "x").expect("written");
        std::os::unix::fs::symlink(outside.path(), folder.join("link")).expect("made");
        std::fs::set_permissions(folder.join("guarded"), Permissions::from_mode(0o500))
            .expect("changed");
        deep(&folder);

        let gone = Gone::aside(&folder, beside.path())
            .expect("moved")
            .expect("was there");
        assert!(!folder.exists());
        assert!(
            Gone::aside(&folder, beside.path())
                .expect("looked")
                .is_none()
        );
        gone.delete().expect("deleted");
        assert_eq!(names(beside.path()), Vec::<PathBuf>::new());
        assert!(outside.path().exists());
    }

    #[test]
    fn what_an_earlier_life_left_is_found_and_deleted() {
        let beside = tempfile::tempdir().expect("a temporary folder");
        for folder in [".gone-abc/3/below", ".gone-abc/7", "living"] {
            std::fs::create_dir_all(beside.path().join(folder)).expect("made");
        }
        for gone in Gone::left_in(beside.path()).expect("looked") {
            gone.delete().expect("deleted");
        }
        assert_eq!(names(beside.path()), [beside.path().join("living")]);
    }
}
