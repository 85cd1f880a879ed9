//! What every chapter of the benchmark needs: the program under test and a place to work.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::peers::supervisor::{self, Supervisor};
use super::process::output_of;

pub(crate) struct Workshop {
    /// The release build of `par`.
    pub(crate) par: PathBuf,
    /// The root of the checkout.
    pub(crate) root: PathBuf,
    /// Where builds go; what is slow to make is kept there.
    target: PathBuf,
    folder: TempDir,
}

impl Workshop {
    /// Builds `par`, unless there is a `binary` to measure.
    pub(crate) async fn open(binary: Option<PathBuf>) -> anyhow::Result<Self> {
        let metadata = ["metadata", "--no-deps", "--format-version", "1"].map(OsStr::new);
        let metadata: Value = serde_json::from_str(&output_of(cargo(), &metadata).await?)?;
        let path = |key: &str| {
            let path = metadata[key].as_str().map(PathBuf::from);
            path.with_context(|| format!("cargo metadata has no {key}"))
        };
        let (root, target) = (path("workspace_root")?, path("target_directory")?);
        let par = match binary {
            Some(binary) => binary
                .canonicalize()
                .with_context(|| format!("no {}", binary.display()))?,
            None => build(&root, &target).await?,
        };
        Ok(Self {
            par,
            root,
            target,
            folder: tempfile::Builder::new().prefix("par-bench-").tempdir()?,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An empty folder; it goes with the workshop.
    pub(crate) fn room(&self) -> anyhow::Result<PathBuf> {
        Ok(tempfile::tempdir_in(self.folder())?.keep())
    }

    /// A supervisor that has never served before.
    pub(crate) async fn supervisor(&self) -> anyhow::Result<Supervisor> {
        Supervisor::start(&self.par, &self.room()?).await
    }

    /// Where uvicorn and FastAPI are installed, once.
    pub(crate) fn bench_environment(&self) -> PathBuf {
        self.target.join("bench-venv")
    }

    /// Where grpcio is installed, once.
    pub(crate) fn grpc_environment(&self) -> PathBuf {
        self.target.join("bench-grpc-venv")
    }

    /// Descriptors of all that workers say over gRPC.
    pub(crate) fn descriptors(&self) -> PathBuf {
        self.root
            .join("crates/par-protocol/src/protobuf/descriptors.bin")
    }

    /// A package whose entrypoint is `invoke` of this source.
    pub(crate) async fn package(&self, source: &str) -> anyhow::Result<Vec<u8>> {
        self.package_with("entrypoint: src.main:invoke", source)
            .await
    }

    /// One of the examples, as it is.
    pub(crate) async fn example(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let agent = self.root.join("examples/agents").join(name);
        supervisor::package_of(&self.par, self.folder(), &agent).await
    }

    /// `surface`: what of its manifest says what it is.
    pub(crate) async fn package_with(
        &self,
        surface: &str,
        source: &str,
    ) -> anyhow::Result<Vec<u8>> {
        let manifest = format!("version: \"1.0\"\nname: bench\n{surface}\n");
        supervisor::package(&self.par, self.folder(), &manifest, source).await
    }
}

fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

async fn build(root: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    let status = Command::new(cargo())
        .args(["build", "--release", "--package", "par"])
        .current_dir(root)
        .kill_on_drop(true)
        .status()
        .await
        .context("failed to start cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(target.join("release").join("par"))
}
