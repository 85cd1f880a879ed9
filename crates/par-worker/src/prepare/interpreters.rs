//! Which Python runs an agent. Asking one about itself takes as long as starting it, so answers are kept in a file,
//! by path and time of change.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use par_package::{Interpreter, Runtime};
use par_sandbox::run_tool;
use serde::{Deserialize, Serialize};

const LONGEST_PROBE: Duration = Duration::from_secs(20);
const ANSWERS: &str = "interpreters.json";

/// The interpreter for `runtime`, and a warning when it is not exactly what was asked for.
///
/// `chosen` is the operator's; else the named version is looked for on `PATH`, then `python3`, then others.
pub(crate) async fn choose(
    chosen: Option<&Path>,
    folder: &Path,
    runtime: &Runtime,
) -> Result<(Interpreter, Option<String>), String> {
    let candidates = match chosen {
        Some(path) => vec![path.to_owned()],
        None => on_path(runtime),
    };
    let mut answers = Answers::read(folder);
    let mut second_best = None;
    let mut refusal = None;
    for candidate in candidates {
        let Some(interpreter) = answers.ask(&candidate).await else {
            continue;
        };
        match runtime.accepts(&interpreter) {
            Ok(None) => return Ok((interpreter, None)),
            Ok(Some(warning)) => {
                second_best = second_best.or_else(|| Some((interpreter, Some(warning.to_string()))))
            }
            Err(unsupported) => refusal = refusal.or_else(|| Some(unsupported.to_string())),
        }
    }
    second_best.ok_or_else(|| {
        refusal.unwrap_or_else(|| match chosen {
            Some(path) => format!("`{}` is not a Python that works", path.display()),
            None => "no Python was found: install Python 3.9 or newer, or name one with --python"
                .to_owned(),
        })
    })
}

/// Executables on `PATH`, the likeliest first.
fn on_path(runtime: &Runtime) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let named = runtime
        .as_str()
        .starts_with("python3.")
        .then(|| runtime.as_str().to_owned());
    let others = (9..=14).rev().map(|minor| format!("python3.{minor}"));
    let names = named
        .into_iter()
        .chain(["python3".to_owned()])
        .chain(others);
    names
        .filter_map(|name| {
            folders
                .iter()
                .map(|folder| folder.join(&name))
                .find(|path| path.is_file())
        })
        .collect()
}

/// What interpreters said of themselves.
#[derive(Default, Serialize, Deserialize)]
struct Answers {
    #[serde(skip)]
    file: PathBuf,
    known: BTreeMap<PathBuf, Answer>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    changed: Duration,
    said: String,
}

impl Answers {
    fn read(folder: &Path) -> Self {
        let file = folder.join(ANSWERS);
        // A missing or broken file only means asking again.
        let kept: Option<Self> = std::fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            file,
            ..kept.unwrap_or_default()
        }
    }

    async fn ask(&mut self, candidate: &Path) -> Option<Interpreter> {
        let changed = std::fs::metadata(candidate)
            .ok()?
            .modified()
            .ok()?
            .duration_since(UNIX_EPOCH)
            .ok()?;
        if let Some(answer) = self.known.get(candidate)
            && answer.changed == changed
            && let Some(interpreter) = understood(&answer.said)
        {
            return Some(interpreter);
        }
        let said = probe(candidate).await?;
        // One that gave no answer may have been short of time or memory: it is asked again.
        let interpreter = understood(&said)?;
        let answer = Answer { changed, said };
        self.known.insert(candidate.to_owned(), answer);
        self.write();
        Some(interpreter)
    }

    /// One rename; when it fails, somebody will ask again.
    fn write(&self) {
        let written =
            tempfile::NamedTempFile::new_in(self.file.parent().unwrap_or_else(|| Path::new("/")))
                .and_then(|mut file| {
                    file.write_all(&serde_json::to_vec(self)?)?;
                    file.persist(&self.file).map_err(|error| error.error)
                });
        if let Err(error) = written {
            tracing::warn!(%error, "failed to keep what the interpreters said");
        }
    }
}

fn understood(said: &str) -> Option<Interpreter> {
    let interpreter = Interpreter::parse(said).ok();
    interpreter.filter(|interpreter| interpreter.path.is_file())
}

async fn probe(candidate: &Path) -> Option<String> {
    let argv: Vec<OsString> = [
        candidate.as_os_str(),
        "-I".as_ref(),
        "-S".as_ref(),
        "-c".as_ref(),
        Interpreter::PROBE.as_ref(),
    ]
    .map(OsString::from)
    .to_vec();
    let mut said = None;
    let ended = run_tool(&argv, Path::new("/"), LONGEST_PROBE, |line| {
        said = Some(line.to_owned())
    })
    .await;
    ended.ok().and(said)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn an_interpreter_that_failed_once_is_asked_again_and_one_that_answered_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (python, works) = (folder.path().join("python"), folder.path().join("works"));
        let script = format!(
            "#!/bin/sh\ntest -e '{}' && exec python3 \"$@\"\n",
            works.display()
        );
        std::fs::write(&python, script).expect("written");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&python, executable).expect("changed");

        let ask = async || Answers::read(folder.path()).ask(&python).await.is_some();
        assert!(!ask().await);
        std::fs::write(&works, "").expect("written");
        assert!(ask().await, "asked again");
        std::fs::remove_file(&works).expect("removed");
        assert!(ask().await, "remembered");
    }
}
