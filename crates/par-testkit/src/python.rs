//! Python environments for tests that talk to real packages.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

/// A virtual environment with `packages` (as pip takes them) below `folder`, made once and then used by every test that
/// asks for the same: `CARGO_TARGET_TMPDIR` is a good folder.
///
/// # Panics
/// When it cannot be made, with what pip said.
pub fn python_environment(folder: &Path, packages: &[&str]) -> PathBuf {
    let mut hash = DefaultHasher::new();
    packages.hash(&mut hash);
    let home = folder.join(format!("python-{:016x}", hash.finish()));
    let complete = home.join("complete");
    fs::create_dir_all(folder).expect("the target folder is ours");
    let lock = File::create(home.with_extension("lock")).expect("the target folder is ours");
    flock(&lock, FlockOperation::LockExclusive).expect("another test ends at some time");
    if !complete.is_file() {
        run(
            "python3".as_ref(),
            &["-m".as_ref(), "venv".as_ref(), home.as_os_str()],
        );
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ];
        let words: Vec<&OsStr> = pip.iter().chain(packages).map(OsStr::new).collect();
        run(&home.join("bin/python"), &words);
        fs::write(complete, packages.join("\n")).expect("the environment is ours");
    }
    home
}

fn run(program: &Path, arguments: &[&OsStr]) {
    let ran = Command::new(program).args(arguments).output();
    let ran = ran.expect("the program is there");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.success(),
        "{} {arguments:?}:\n{said}",
        program.display()
    );
}
