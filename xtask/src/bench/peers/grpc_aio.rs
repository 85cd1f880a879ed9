//! A server in Python with grpc.aio, as its documentation starts it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tokio::process::Command;

use super::environment;
use crate::bench::process::{Running, free_address};

const PROGRAM: &str = include_str!("grpc_aio.py");
const PACKAGES: [&str; 2] = ["grpcio", "protobuf"];

pub(crate) struct GrpcAio {
    _running: Running,
    pub(crate) address: SocketAddr,
}

impl GrpcAio {
    /// `environment` is made, once, with what PyPI has. `descriptors`: a file with a `FileDescriptorSet`.
    pub(crate) async fn start(
        folder: &Path,
        environment: &Path,
        descriptors: &Path,
    ) -> anyhow::Result<Self> {
        let python = environment::interpreter(environment, &PACKAGES, &PACKAGES).await?;
        let home = folder.join("grpc-aio");
        fs::create_dir(&home)?;
        let program = home.join("grpc_aio.py");
        fs::write(&program, PROGRAM)?;
        let address = free_address()?;
        let mut command = Command::new(python);
        command
            .arg(&program)
            .arg(address.to_string())
            .arg(descriptors);
        let mut running = Running::start("grpc-aio", &mut command, &home)?;
        running.listens(address).await?;
        Ok(Self {
            _running: running,
            address,
        })
    }
}

/// Such as `grpcio 1.80.0, protobuf 7.34.0`.
pub(crate) async fn versions(environment: &Path) -> anyhow::Result<String> {
    environment::versions(environment, &PACKAGES).await
}
