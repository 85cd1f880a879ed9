//! A state file that cannot be used keeps the supervisor from starting, says why, and loses nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use par_testkit::System;

use crate::ran::{Ran, par};

fn up(state: &Path) -> Ran {
    let state = state.to_str().expect("plain");
    let words = ["up", "--port", "0", "--state", state];
    par(words).ended_with(1)
}

#[test]
fn a_damaged_state_file_is_told_with_the_way_back_which_works() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let builder = || System::builder(env!("CARGO_BIN_EXE_par")).state(folder.path());
    builder().start().stop();
    let file = folder.path().join("par.db");
    let mut bytes = fs::read(&file).expect("readable");
    bytes[4096..].fill(0x5a);
    fs::write(&file, &bytes).expect("written");
    let said = up(folder.path()).stderr;
    assert!(said.contains("is damaged"), "{said}");
    assert_eq!(fs::read(&file).expect("readable"), bytes, "it is untouched");
    let joined = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let command = joined.split('`').find(|part| part.starts_with("mv "));
    let command = command.unwrap_or_else(|| panic!("no way back in {said}"));
    let followed = Command::new("sh").args(["-c", command]).output();
    assert!(followed.expect("a shell").status.success(), "{command}");
    builder().start().stop();
}

#[test]
fn the_file_of_another_program_is_named_and_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("par.db");
    fs::write(&file, "dear diary\n".repeat(100)).expect("written");
    let said = up(folder.path()).stderr;
    assert!(said.contains("it is not a database"), "{said}");
    assert!(said.contains("par.db"), "{said}");
    assert!(
        fs::read_to_string(&file)
            .expect("readable")
            .starts_with("dear diary")
    );
}
