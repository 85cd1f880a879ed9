//! The folder of sockets between the worker and its agent's gRPC: the agent's way out, and the way to its own server.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use par_model::control::WorkerSpec;
use tokio::net::UnixListener;
use tracing::warn;

/// The longest path that the name of a unix socket has room for.
const LONGEST_PATH: usize = 107;

pub(crate) struct Sockets {
    folder: PathBuf,
}

impl Sockets {
    /// None where the way to the folder is too long for a socket's name.
    pub(crate) fn make(spec: &WorkerSpec) -> io::Result<Option<Self>> {
        let folder = match &spec.socket {
            Some(socket) => socket.with_extension("d"),
            None => spec.folders.workspace.join(".run"),
        };
        let sockets = Self { folder };
        if sockets.door().as_os_str().len() > LONGEST_PATH {
            return Ok(None);
        }
        if sockets.folder.exists() {
            par_package::remove_tree(&sockets.folder)?; // of an earlier life
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&sockets.folder)?;
        sockets.give(spec.isolation.user)?;
        Ok(Some(sockets))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the worker listens.
    pub(crate) fn door(&self) -> PathBuf {
        self.folder.join("door.sock")
    }

    /// Where the agent's own server listens, if it starts one.
    pub(crate) fn own(&self) -> PathBuf {
        self.folder.join("own.sock")
    }

    /// Before the agent begins: it has the folder to itself and us.
    pub(crate) fn open_door(&self, spec: &WorkerSpec) -> io::Result<UnixListener> {
        let listener = UnixListener::bind(self.door())?;
        if let Some(user) = spec.isolation.user {
            std::os::unix::fs::lchown(self.door(), Some(user), Some(user))?;
        }
        Ok(listener)
    }

    fn give(&self, user: Option<u32>) -> io::Result<()> {
        match user {
            Some(user) => std::os::unix::fs::lchown(&self.folder, Some(user), Some(user)),
            None => Ok(()),
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Err(error) = par_package::remove_tree(&self.folder) {
            warn!(%error, "failed to remove the folder of the agent's sockets");
        }
    }
}
