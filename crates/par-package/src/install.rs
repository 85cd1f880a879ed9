//! How an environment of dependencies is made: the commands, not their running.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::interpreter::Interpreter;

/// Written into the environment's folder by the caller, before the steps run: [`crate::Requirements::text`].
pub const REQUIREMENTS_FILE: &str = "requirements.txt";
/// What becomes of packages that have no wheel for this interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// They are refused: a wheel is unpacked, and nothing of it is run.
    Refused,
    /// They are built, and what they say how is run.
    Built,
}

/// One command to run, and what to tell people meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub argv: Vec<OsString>,
    pub label: String,
}

/// The commands that make an environment in `target` and install its requirements file into it.
pub fn install_plan(
    interpreter: &Interpreter,
    uv: Option<&Path>,
    target: &Path,
    sources: Sources,
) -> Vec<Step> {
    let mut steps = match uv {
        Some(uv) => with_uv(interpreter, uv, target),
        None => with_pip(interpreter, target),
    };
    if sources == Sources::Refused
        && let Some(install) = steps.last_mut()
    {
        let words = ["--only-binary", ":all:"].map(OsString::from);
        install.argv.extend(words);
    }
    steps
}

/// Where an environment's modules are.
pub fn site_packages(target: &Path, interpreter: &Interpreter) -> PathBuf {
    target
        .join("lib")
        .join(interpreter.folder_name())
        .join("site-packages")
}

fn with_uv(interpreter: &Interpreter, uv: &Path, target: &Path) -> Vec<Step> {
    let python = target.join("bin/python");
    let requirements = target.join(REQUIREMENTS_FILE);
    let path = |path: &Path| path.as_os_str().to_owned();
    let word = |word: &str| OsString::from(word);
    vec![
        Step {
            argv: vec![
                path(uv),
                word("venv"),
                word("--quiet"),
                word("--no-project"),
                word("--allow-existing"),
                word("--python"),
                path(&interpreter.path),
                path(target),
            ],
            label: format!("making an environment with {interpreter} and uv"),
        },
        Step {
            argv: vec![
                path(uv),
                word("pip"),
                word("install"),
                word("--python"),
                path(&python),
                word("--requirement"),
                path(&requirements),
            ],
            label: "installing dependencies with uv".to_owned(),
        },
    ]
}

fn with_pip(interpreter: &Interpreter, target: &Path) -> Vec<Step> {
    let path = |path: &Path| path.as_os_str().to_owned();
    let word = |word: &str| OsString::from(word);
    vec![
        Step {
            argv: vec![
                path(&interpreter.path),
                word("-I"),
                word("-m"),
                word("venv"),
                path(target),
            ],
            label: format!("making an environment with {interpreter}"),
        },
        Step {
            argv: vec![
                path(&target.join("bin/python")),
                word("-I"),
                word("-m"),
                word("pip"),
                word("install"),
                word("--no-input"),
                word("--disable-pip-version-check"),
                word("--requirement"),
                path(&target.join(REQUIREMENTS_FILE)),
            ],
            label: "installing dependencies with pip".to_owned(),
        },
    ]
}

/// The line of an installer's output that says why it failed.
pub fn failure_reason(output: &str) -> String {
    const TELLING: [&str; 11] = [
        "No matching distribution found",
        "was not found in the package registry",
        "ResolutionImpossible",
        "conflicting dependencies",
        "requirements are unsatisfiable",
        "no usable wheels",
        "is not allowed to reach",
        "No space left on device",
        "Temporary failure in name resolution",
        "Connection refused",
        "error:",
    ];
    let lines = || {
        output
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    let telling = TELLING.iter().find_map(|words| {
        lines().rfind(|line| {
            line.to_ascii_lowercase()
                .contains(&words.to_ascii_lowercase())
        })
    });
    let line = telling
        .or_else(|| lines().next_back())
        .unwrap_or("the installer said nothing");
    let bare = ["ERROR: ", "error: ", "cause: "]
        .iter()
        .find_map(|prefix| line.strip_prefix(prefix))
        .unwrap_or(line);
    bare.chars().filter(|c| !c.is_control()).take(300).collect()
}
