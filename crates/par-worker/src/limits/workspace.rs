//! What lies in a folder.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::io::Errno;

/// Files and folders that may be in a folder that is bounded.
pub(crate) const MOST_FILES: u64 = 100_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// That the file system keeps for it.
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// Counts files and folders, without following links, and stops at more than `most`. What vanishes meanwhile
/// is left out; a folder that cannot be looked into counts as too many, or files would be hidden in it.
pub(crate) fn count(folder: &Path, most: u64) -> Found {
    const BLOCK: u64 = 512;
    let mut found = Found::default();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if is_hidden(&error) => {
                found.files = most.saturating_add(1);
                return found;
            }
            Err(_) => continue,
        };
        for entry in entries.filter_map(Result::ok) {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            found.files += 1;
            found.bytes += metadata.blocks() * BLOCK;
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
            if found.files > most {
                return found;
            }
        }
    }
    found
}

/// Its path is too long for the kernel, or somebody has taken away our right to read it.
fn is_hidden(error: &io::Error) -> bool {
    [Errno::NAMETOOLONG, Errno::ACCESS]
        .iter()
        .any(|hidden| error.raw_os_error() == Some(hidden.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_deeper_than_the_longest_path_are_not_hidden() {
        use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
        let folder = tempfile::tempdir().expect("a folder");
        let name = "n".repeat(250);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = openat(CWD, folder.path(), flags, Mode::empty()).expect("opened");
        for _ in 0..20 {
            mkdirat(&at, &name, Mode::RWXU).expect("made");
            at = openat(&at, &name, flags, Mode::empty()).expect("opened");
        }
        assert_eq!(count(folder.path(), 1000).files, 1001);
        par_package::remove_tree(&folder.keep()).expect("removed");
    }

    #[test]
    fn files_are_counted_at_any_depth_and_links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let deep = folder.path().join("a/b/c");
        fs::create_dir_all(&deep).expect("made");
        fs::write(deep.join("file"), vec![1; 100_000]).expect("written");
        std::os::unix::fs::symlink("/", folder.path().join("root")).expect("linked");
        let found = count(folder.path(), 1000);
        assert_eq!(found.files, 5);
        assert!((100_000..200_000).contains(&found.bytes), "{found:?}");
    }

    #[test]
    fn counting_stops_where_there_are_too_many() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in 0..20 {
            fs::write(folder.path().join(name.to_string()), "").expect("written");
        }
        assert_eq!(count(folder.path(), 5).files, 6);
    }

    #[test]
    fn a_folder_that_is_not_there_is_empty() {
        assert_eq!(count(Path::new("/nowhere/at/all"), 5), Found::default());
    }
}
