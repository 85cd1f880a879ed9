//! Runs the binary and keeps what it said.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let parsed = serde_json::from_str(&self.stdout);
        parsed.unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Fails unless the command ended with `code`.
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

pub(crate) fn par<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Ran {
    par_in(Path::new("."), words, "")
}

/// Runs in `folder`, with `input` as standard input and none of our own settings.
pub(crate) fn par_in<S: AsRef<OsStr>>(
    folder: &Path,
    words: impl IntoIterator<Item = S>,
    input: &str,
) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_par"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PAR_") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child
        .stdin
        .take()
        .expect("it was spawned with a piped stdin");
    // A command that does not read may be gone before it is written to.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    Ran {
        code: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
