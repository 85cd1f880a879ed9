//! What the processes of an agent and of its sessions find around them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use par_model::control::WorkerSpec;

use crate::agent::sockets::Sockets;
use crate::limits::Guard;
use crate::prepare::Prepared;
use crate::reports::Reporter;
use crate::sessions::{Ground, Serials};
use crate::variables::search_path;

/// Of a private `/tmp`.
pub(crate) const TMP_BYTES: u64 = 256 << 20;
/// Where packages look for the execution backend before they look at their gRPC port.
const BACKEND_SOCKET: &str = "pixell-python-agent-50051.sock";

/// Folders that keep their place should they lie in the machine's `/tmp`.
pub(crate) fn kept_folders(
    spec: &WorkerSpec,
    prepared: &Prepared,
    sockets: Option<&Sockets>,
) -> Vec<PathBuf> {
    let mut kept = vec![
        spec.package.clone(),
        spec.folders.environments.clone(),
        spec.folders.python.clone(),
        spec.folders.workspace.clone(),
    ];
    kept.extend(sockets.map(|sockets| sockets.folder().to_owned()));
    kept.extend(home_of(&prepared.python));
    kept
}

/// Names in the agent's own `/tmp` for sockets of its worker.
pub(crate) fn backend_socket(sockets: Option<&Sockets>) -> BTreeMap<String, PathBuf> {
    let door = sockets.map(Sockets::door);
    door.map(|door| (BACKEND_SOCKET.to_owned(), door))
        .into_iter()
        .collect()
}

/// What sessions stand on. Folders of an earlier life's sessions are gone afterwards.
pub(crate) fn ground(
    spec: &WorkerSpec,
    prepared: &Prepared,
    guard: &Guard,
    reporter: Reporter,
) -> io::Result<Ground> {
    let folder = spec.folders.workspace.join("sessions");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let keep = [
        Some(spec.folders.environments.clone()),
        Some(spec.folders.python.clone()),
        home_of(&prepared.python),
    ];
    Ok(Ground {
        python: prepared.python.clone(),
        program: prepared.session.clone(),
        site: prepared.site.clone(),
        path: search_path(&prepared.programs),
        folder,
        keep: keep.into_iter().flatten().collect(),
        tmp_bytes: TMP_BYTES,
        limits: spec.sessions,
        group: guard.replica().cloned(),
        pids: spec.wanted.pids,
        serials: Serials::default(),
        reporter,
        said: RefCell::default(),
    })
}

/// The folder that an interpreter is installed in, where its standard library is.
fn home_of(python: &Path) -> Option<PathBuf> {
    let python = python.canonicalize().ok()?;
    Some(python.parent()?.parent()?.to_owned())
}
