//! The tests of the Python side, which speak frames from the worker's end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the tests of ASGI applications want to have; the harness itself needs nothing.
const PACKAGES: &str = "fastapi==0.116.1";

#[test]
fn the_tests_of_the_python_side_pass() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python");
    let arguments = ["-m", "unittest", "discover", "-s", "tests"].map(OsStr::new);
    let said = run(&environment().join("bin/python"), &arguments, &python);
    assert!(said.contains("\nRan "), "tests were found:\n{said}");
    assert!(
        !said.contains("skipped"),
        "everything that they need is there:\n{said}"
    );
}

/// A virtual environment below the target folder, made once.
fn environment() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{PACKAGES}"));
    let complete = home.join("complete");
    if !complete.is_file() {
        let here = Path::new(".");
        run(
            Path::new("python3"),
            &["-m".as_ref(), "venv".as_ref(), home.as_os_str()],
            here,
        );
        run(
            &home.join("bin/python"),
            &["-m", "pip", "install", "--quiet", PACKAGES].map(OsStr::new),
            here,
        );
        std::fs::write(complete, "").expect("the environment is ours");
    }
    home
}

/// What a program that succeeded said on standard error.
fn run(program: &Path, arguments: &[&OsStr], folder: &Path) -> String {
    let ran = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the program is there");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        ran.status.success(),
        "{} {arguments:?}:\n{said}",
        program.display()
    );
    said
}
