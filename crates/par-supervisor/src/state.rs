//! The state folder: who may use it, and where things are in it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use par_model::control::Folders;
use par_model::{AgentId, ReplicaId};
use rustix::fs::{FlockOperation, flock};

use crate::gone::Gone;

/// The longest folder in which a unix socket still has a name that fits.
const LONGEST_SOCKET_FOLDER: usize = 70;

/// A worker keeps the sockets for its agent in a folder beside its own, with this extension.
const SOCKETS_OF_THE_AGENT: &str = "d";

/// A state folder that nobody else uses while this lives.
pub(crate) struct StateFolder {
    root: PathBuf,
    /// Sockets of this life; of no other.
    run: PathBuf,
    _lock: File,
    _elsewhere: Option<tempfile::TempDir>,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("another supervisor uses the state folder `{}`: end it, or name another with --state", .0.display())]
    Taken(PathBuf),
    #[error("failed to prepare the state folder `{}`", path.display())]
    Prepare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl StateFolder {
    pub(crate) fn open(root: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Prepare {
            path: root.to_owned(),
            source,
        };
        private_folder(root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("lock"))
            .map_err(failed)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StateError::Taken(root));
        }
        for folder in [
            "packages",
            "environments",
            "python",
            "agents",
            "uploads",
            "logs",
            "run",
        ] {
            private_folder(&root.join(folder)).map_err(failed)?;
        }
        clear(&root.join("uploads")).map_err(failed)?;
        clear(&root.join("run")).map_err(failed)?;
        let (run, elsewhere) = socket_folder(&root).map_err(failed)?;
        Ok(Self {
            root,
            run,
            _lock: lock,
            _elsewhere: elsewhere,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn packages(&self) -> PathBuf {
        self.root.join("packages")
    }

    /// What agents wrote.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// Where workers reach us.
    pub(crate) fn supervisor_socket(&self) -> PathBuf {
        self.run.join("supervisor.sock")
    }

    /// Where we reach a worker.
    pub(crate) fn worker_socket(&self, replica: ReplicaId) -> PathBuf {
        self.run.join(format!("{replica}.sock"))
    }

    /// Removes what a worker that was killed left of its sockets.
    pub(crate) fn remove_sockets(&self, replica: ReplicaId) -> io::Result<()> {
        let socket = self.worker_socket(replica);
        let folder = socket.with_extension(SOCKETS_OF_THE_AGENT);
        for removed in [
            std::fs::remove_file(socket),
            std::fs::remove_dir_all(folder),
        ] {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn folders_of(&self, agent: &AgentId) -> Folders {
        Folders {
            environments: self.root.join("environments"),
            python: self.root.join("python"),
            workspace: self.workspace(agent),
        }
    }

    fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }

    fn workspace(&self, agent: &AgentId) -> PathBuf {
        self.agents().join(agent.as_str())
    }

    /// Takes away what belongs to an agent alone; it has yet to be deleted.
    pub(crate) fn forget(&self, agent: &AgentId) -> io::Result<Option<Gone>> {
        Gone::aside(&self.workspace(agent), &self.agents())
    }

    /// What an earlier life took away and did not delete.
    pub(crate) fn forgotten(&self) -> io::Result<Vec<Gone>> {
        Gone::left_in(&self.agents())
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.run)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "failed to remove the folder of sockets");
        }
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Leftovers of an earlier life: nobody else uses this state folder.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A folder for the sockets of this life. A worker of an earlier one may still be ending, and removes its own.
fn socket_folder(root: &Path) -> io::Result<(PathBuf, Option<tempfile::TempDir>)> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let within = root.join("run").join(format!("{:x}", since.as_millis()));
    if within.as_os_str().len() <= LONGEST_SOCKET_FOLDER {
        private_folder(&within)?;
        return Ok((within, None));
    }
    let elsewhere = tempfile::Builder::new().prefix("par-").tempdir()?;
    Ok((elsewhere.path().to_owned(), Some(elsewhere)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_serves_one_supervisor_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = StateFolder::open(folder.path()).expect("free");
        assert!(matches!(
            StateFolder::open(folder.path()),
            Err(StateError::Taken(_))
        ));
        drop(first);
        assert!(StateFolder::open(folder.path()).is_ok());
    }

    #[test]
    fn a_long_path_still_has_room_for_sockets() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let long = folder.path().join("x".repeat(120));
        let state = StateFolder::open(&long).expect("prepared");
        let socket = state.worker_socket(ReplicaId(u64::MAX));
        let folder = socket.with_extension(SOCKETS_OF_THE_AGENT);
        assert!(folder.join("door.sock").as_os_str().len() < 108);
    }
}
