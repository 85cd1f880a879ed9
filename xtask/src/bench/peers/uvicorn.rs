//! uvicorn with FastAPI, as its documentation starts it: one process, uvloop and httptools.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tokio::process::Command;

use super::environment;
use crate::bench::process::{Running, free_address};

const PACKAGES: [&str; 2] = ["uvicorn[standard]", "fastapi"];
const NAMES: [&str; 4] = ["uvicorn", "fastapi", "uvloop", "httptools"];

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
        let python = environment::interpreter(environment, &PACKAGES, &NAMES).await?;
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

/// Such as `uvicorn 0.30.1, fastapi 0.111.0, uvloop 0.19.0, httptools 0.6.1`.
pub(crate) async fn versions(environment: &Path) -> anyhow::Result<String> {
    environment::versions(environment, &NAMES).await
}
