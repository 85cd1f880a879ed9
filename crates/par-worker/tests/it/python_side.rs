//! The tests of the Python side, which speak frames from the worker's end.

use std::path::Path;
use std::process::Command;

use par_testkit::python_environment;

/// What applications, services and sessions of the tests use; the Python side itself needs nothing.
const PACKAGES: [&str; 6] = [
    "fastapi==0.116.1",
    "grpcio>=1.73.1,<2",
    "protobuf>=6.31.1,<7",
    "numpy>=2,<3",
    "pandas>=2.2,<4",
    "matplotlib>=3.9,<4",
];

#[test]
fn the_tests_of_the_python_side_pass() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python");
    let home = python_environment(Path::new(env!("CARGO_TARGET_TMPDIR")), &PACKAGES);
    let ran = Command::new(home.join("bin/python"))
        .args(["-m", "unittest", "discover", "-s", "tests"])
        .current_dir(python)
        .output()
        .expect("the interpreter is there");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{said}");
    assert!(said.contains("\nRan "), "tests were found:\n{said}");
    let left_out = said.contains("skipped") || said.contains("test_session_libraries: without");
    assert!(!left_out, "everything that they need is there:\n{said}");
}
