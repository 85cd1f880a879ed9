//! uvicorn with FastAPI, as its documentation starts it: one process, uvloop and httptools.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

use crate::bench::process::{Running, free_address, output_of};

const APPLICATION: &str = r#"from fastapi import FastAPI

app = FastAPI()


@app.post("/invoke")
async def invoke(body: dict) -> dict:
    return {"x": body["x"]}
"#;

pub(crate) struct Uvicorn {
    _running: Running,
    pub(crate) address: SocketAddr,
}

impl Uvicorn {
    /// `environment` is made, once, with what PyPI has.
    pub(crate) async fn start(folder: &Path, environment: &Path) -> anyhow::Result<Self> {
        let python = prepare(environment).await?;
        let home = folder.join("uvicorn");
        fs::create_dir(&home)?;
        fs::write(home.join("app.py"), APPLICATION)?;
        let address = free_address()?;
        let mut command = Command::new(python);
        command.args(["-m", "uvicorn", "app:app", "--no-access-log"]);
        command.arg("--host").arg(address.ip().to_string());
        command.arg("--port").arg(address.port().to_string());
        command.arg("--app-dir").arg(&home);
        let mut running = Running::start("uvicorn", &mut command, &home)?;
        running.listens(address).await?;
        Ok(Self {
            _running: running,
            address,
        })
    }
}

/// The interpreter of an environment that has uvicorn and FastAPI.
async fn prepare(environment: &Path) -> anyhow::Result<PathBuf> {
    let python = environment.join("bin/python");
    if versions(environment).await.is_ok() {
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
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "uvicorn[standard]",
        "fastapi",
    ];
    output_of(&python, &install.map(OsStr::new))
        .await
        .context("PyPI gave no uvicorn and FastAPI")?;
    Ok(python)
}

/// Such as `uvicorn 0.30.1, fastapi 0.111.0, uvloop 0.19.0, httptools 0.6.1`.
pub(crate) async fn versions(environment: &Path) -> anyhow::Result<String> {
    const ASK: &str = "from importlib.metadata import version\n\
        print(', '.join(f'{n} {version(n)}' for n in ('uvicorn', 'fastapi', 'uvloop', 'httptools')))";
    let said = output_of(environment.join("bin/python"), &["-c", ASK].map(OsStr::new)).await?;
    Ok(said.trim().to_owned())
}
