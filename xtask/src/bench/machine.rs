//! What was measured, and on what: figures of two machines are not compared.

use std::ffi::OsStr;
use std::fs;
use std::thread::available_parallelism;

use serde::Serialize;

use super::peers::{grpc_aio, nginx, uvicorn};
use super::process::output_of;
use super::workshop::Workshop;

#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Processes that wanted a core in the minute before, the build of this program among them.
    pub(crate) load_before: String,
    pub(crate) commit: String,
    pub(crate) par: String,
    pub(crate) python: String,
    pub(crate) nginx: String,
    pub(crate) uvicorn: String,
    pub(crate) grpc_aio: String,
}

impl Machine {
    pub(crate) async fn look(workshop: &Workshop, load_before: String) -> anyhow::Result<Self> {
        let root = workshop.root.as_os_str();
        let commit = [
            "-C".as_ref(),
            root,
            "rev-parse".as_ref(),
            "--short".as_ref(),
            "HEAD".as_ref(),
        ];
        Ok(Self {
            processor: processor().unwrap_or_else(|| "unknown".to_owned()),
            cores: available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            load_before,
            commit: said("git", &commit).await,
            par: said(&workshop.par, &["--version".as_ref()]).await,
            python: said("python3", &["--version".as_ref()]).await,
            nginx: nginx_version().await,
            uvicorn: uvicorn::versions(&workshop.bench_environment())
                .await
                .unwrap_or_else(|_| "not there".to_owned()),
            grpc_aio: grpc_aio::versions(&workshop.grpc_environment())
                .await
                .unwrap_or_else(|_| "not there".to_owned()),
        })
    }
}

async fn said(program: impl AsRef<OsStr>, arguments: &[&OsStr]) -> String {
    let output = output_of(program, arguments).await;
    output.map_or_else(|_| "not there".to_owned(), |said| said.trim().to_owned())
}

/// nginx says its version on standard error.
async fn nginx_version() -> String {
    let Some(program) = nginx::program() else {
        return "not there".to_owned();
    };
    let script = [
        "-c".as_ref(),
        "\"$0\" -v 2>&1".as_ref(),
        program.as_os_str(),
    ];
    said("sh", &script).await
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

pub(crate) fn load_average() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}
