//! What the harness is told to load, made from the package's manifest.

use std::path::{Path, PathBuf};

use par_model::control::WorkerSpec;
use par_package::Package;
use par_protocol::harness::{Export, Load};

use super::sockets::Sockets;

pub(crate) fn load_of(
    spec: &WorkerSpec,
    package: &Package,
    site: Vec<PathBuf>,
    sockets: Option<&Sockets>,
    mark: &str,
) -> Load {
    let manifest = &package.manifest;
    let export = |export: &par_package::Export| Export {
        name: export.name.clone(),
        handler: export.handler.as_ref().map(ToString::to_string),
        sub_agent: export.sub_agent,
    };
    Load {
        agent_id: spec.agent.to_string(),
        root: package.root.clone(),
        site,
        entrypoint: manifest.entrypoint.as_ref().map(ToString::to_string),
        exports: manifest.exports.iter().map(export).collect(),
        rest_entry: manifest.rest_entry.as_ref().map(ToString::to_string),
        asgi_app: manifest.asgi_app.as_ref().map(ToString::to_string),
        a2a_service: manifest.a2a_service.as_ref().map(ToString::to_string),
        own_grpc_socket: sockets.map(Sockets::own),
        grpc_door: sockets.map(Sockets::door),
        concurrency: spec.limits.concurrency,
        bytecode: bytecode_folder(&spec.folders.workspace),
        mark: mark.to_owned(),
    }
}

/// Compiled Python of one agent: never shared, or one agent could write what another runs.
fn bytecode_folder(workspace: &Path) -> PathBuf {
    workspace.join(".bytecode")
}
