//! Python environments for what PyPI has, made once.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::bench::process::output_of;

/// The interpreter of `environment`, which is made unless it has all `packages`.
pub(super) async fn interpreter(
    environment: &Path,
    packages: &[&str],
    names: &[&str],
) -> anyhow::Result<PathBuf> {
    let python = environment.join("bin/python");
    if versions(environment, names).await.is_ok() {
        return Ok(python);
    }
    let venv = [
        OsStr::new("-m"),
        OsStr::new("venv"),
        environment.as_os_str(),
    ];
    output_of("python3", &venv)
        .await
        .context("failed to make a venv")?;
    let install = ["-m", "pip", "install", "--quiet"];
    let arguments: Vec<&OsStr> = install.iter().chain(packages).map(OsStr::new).collect();
    let gave_none = || format!("PyPI gave no {}", packages.join(" and "));
    output_of(&python, &arguments)
        .await
        .with_context(gave_none)?;
    Ok(python)
}

/// Such as `uvicorn 0.30.1, fastapi 0.111.0`; an error unless all of these are there.
pub(super) async fn versions(environment: &Path, names: &[&str]) -> anyhow::Result<String> {
    const ASK: &str = "import sys\nfrom importlib.metadata import version\n\
        print(', '.join(f'{n} {version(n)}' for n in sys.argv[1:]))";
    let arguments = ["-c", ASK];
    let arguments: Vec<&OsStr> = arguments.iter().chain(names).map(OsStr::new).collect();
    let said = output_of(environment.join("bin/python"), &arguments).await?;
    Ok(said.trim().to_owned())
}
