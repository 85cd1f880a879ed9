//! The Python side of the runtime: ordinary files, carried in this binary, written once a version.

use std::io;
use std::path::{Path, PathBuf};

use include_dir::{Dir, File, include_dir};
use sha2::{Digest as _, Sha256};

static HARNESS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../python/par_harness");
static SESSION: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../python/par_session");
static AGENT_API: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../python/pixell_agent_runtime");

/// Where this version of it is, below `folder`; written there first if it is not yet.
pub(crate) fn ensure(folder: &Path) -> io::Result<PathBuf> {
    let files = files();
    let home = folder.join(version(&files));
    if !home.is_dir() {
        write(folder, &home, &files)?;
    }
    Ok(home)
}

/// The program of an agent.
pub(crate) fn harness(home: &Path) -> PathBuf {
    home.join("par_harness").join("__main__.py")
}

/// The program of an execution session.
pub(crate) fn session(home: &Path) -> PathBuf {
    home.join("par_session").join("__main__.py")
}

/// Paths below the folder, and their contents.
fn files() -> Vec<(PathBuf, &'static [u8])> {
    let mut files = vec![];
    for (name, folder) in [
        ("par_harness", &HARNESS),
        ("par_session", &SESSION),
        ("pixell_agent_runtime", &AGENT_API),
    ] {
        collect(folder, &mut |file| {
            files.push((Path::new(name).join(file.path()), file.contents()))
        });
    }
    files
}

fn collect(folder: &'static Dir<'static>, found: &mut impl FnMut(&'static File<'static>)) {
    for file in folder.files() {
        if file
            .path()
            .extension()
            .is_some_and(|extension| extension == "py")
        {
            found(file);
        }
    }
    for below in folder.dirs() {
        collect(below, found);
    }
}

fn version(files: &[(PathBuf, &[u8])]) -> String {
    let mut hash = Sha256::new();
    for (path, contents) in files {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update(contents.len().to_le_bytes());
        hash.update(contents);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Writes beside and renames: another worker may be doing the same.
fn write(folder: &Path, home: &Path, files: &[(PathBuf, &[u8])]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let beside = folder.join(format!(".{}.new", std::process::id()));
    for (path, contents) in files {
        let target = beside.join(path);
        std::fs::create_dir_all(target.parent().unwrap_or(folder))?;
        std::fs::write(target, contents)?;
    }
    match std::fs::rename(&beside, home) {
        Err(_) if home.is_dir() => std::fs::remove_dir_all(&beside),
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_written_once_and_found_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = ensure(folder.path()).expect("written");
        assert!(harness(&home).is_file() && session(&home).is_file());
        assert!(home.join("pixell_agent_runtime/a2a_client.py").is_file());
        std::fs::write(home.join("mark"), "").expect("writable");
        assert_eq!(ensure(folder.path()).expect("found"), home);
        assert!(home.join("mark").is_file(), "nothing was written again");
    }
}
