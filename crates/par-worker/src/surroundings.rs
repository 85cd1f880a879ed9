//! What the processes of an agent and of its sessions find around them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use par_model::control::{IsolationSpec, WorkerSpec};

use par_sandbox::{PrivateTmp, View};

use crate::agent::sockets::Sockets;
use crate::limits::Guard;
use crate::prepare::Prepared;
use crate::reports::Reporter;
use crate::sessions::{Ground, Serials};
use crate::variables::search_path;

/// Of a private `/tmp`.
const TMP_BYTES: u64 = 256 << 20;
/// Of `/dev/shm`.
const SHM_BYTES: u64 = 64 << 20;
/// Where packages look for the execution backend before they look at their gRPC port.
const BACKEND_SOCKET: &str = "pixell-python-agent-50051.sock";

/// What an agent sees of the machine's files.
pub(crate) fn view(spec: &WorkerSpec, prepared: &Prepared, sockets: Option<&Sockets>) -> View {
    let mut read_only = programs(prepared);
    // An interpreter in somebody's home would show it whole, and everything of ours with it.
    read_only.retain(|folder| !spec.folders.workspace.starts_with(folder));
    read_only.push(spec.package.clone());
    let mut writable = vec![spec.folders.workspace.clone()];
    writable.extend(sockets.map(|sockets| sockets.folder().to_owned()));
    View {
        read_only,
        writable,
        sockets: BTreeMap::new(),
        tmp_bytes: TMP_BYTES,
        shm_bytes: SHM_BYTES,
    }
}

/// The interpreter, its modules, and our side of it.
fn programs(prepared: &Prepared) -> Vec<PathBuf> {
    let environment = prepared.python.parent().and_then(Path::parent);
    let environment = environment.map(ToOwned::to_owned);
    let home = home_of(&prepared.python);
    let ours = prepared.harness.parent().and_then(Path::parent);
    let ours = ours.map(ToOwned::to_owned);
    [environment, home, ours].into_iter().flatten().collect()
}

/// Where there is no root of its own: folders that keep their place should they lie in the machine's `/tmp`.
pub(crate) fn private_tmp(view: &View) -> PrivateTmp {
    PrivateTmp {
        bytes: view.tmp_bytes,
        keep: view
            .read_only
            .iter()
            .chain(&view.writable)
            .cloned()
            .collect(),
        sockets: view.sockets.clone(),
    }
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
    let folder = spec.folders.sessions.clone();
    if folder.exists() {
        par_package::remove_tree(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let view = View {
        read_only: programs(prepared),
        tmp_bytes: TMP_BYTES,
        shm_bytes: SHM_BYTES,
        ..View::default()
    };
    Ok(Ground {
        python: prepared.python.clone(),
        program: prepared.session.clone(),
        site: prepared.site.clone(),
        path: search_path(&prepared.programs),
        folder,
        view,
        isolation: IsolationSpec {
            user: spec.isolation.session_user,
            ..spec.isolation.clone()
        },
        limits: spec.sessions,
        group: guard.replica().cloned(),
        pids: spec.wanted.pids,
        disk: spec.wanted.workspace,
        open_files: spec.wanted.open_files,
        serials: Serials::default(),
        reporter,
        said: RefCell::default(),
    })
}

/// The folder that an interpreter is installed in, where its standard library is.
pub(crate) fn home_of(python: &Path) -> Option<PathBuf> {
    let python = python.canonicalize().ok()?;
    Some(python.parent()?.parent()?.to_owned())
}
