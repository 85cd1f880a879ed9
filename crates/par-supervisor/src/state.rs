//! The state folder: who may use it, and where things are in it.

use std::cell::Cell;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use par_model::control::Folders;
use par_model::{AgentId, ReplicaId};
use par_package::remove_tree;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use crate::gone::Gone;

/// The longest folder in which a unix socket still has a name that fits.
const LONGEST_SOCKET_FOLDER: usize = 70;

/// A worker keeps the sockets for its agent in a folder beside its own, with this extension.
const SOCKETS_OF_THE_AGENT: &str = "d";

/// A state folder that nobody else uses while this lives.
pub(crate) struct StateFolder {
    root: PathBuf,
    /// Sockets: of this life, and of workers that outlived an earlier one.
    run: PathBuf,
    lock: File,
    /// The sockets are somebody else's when this ends.
    handed_over: Cell<bool>,
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
    /// `lock`: from a supervisor that hands over to us, and holds it until then.
    pub(crate) fn open(root: &Path, lock: Option<File>) -> Result<Self, StateError> {
        let failed = |source| StateError::Prepare {
            path: root.to_owned(),
            source,
        };
        private_folder(root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let lock = match lock {
            Some(lock) => lock,
            None => lock_file(&root).map_err(failed)?,
        };
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
        let run = socket_folder(&root).map_err(failed)?;
        Ok(Self {
            root,
            run,
            lock,
            // Until we serve, it is still the place of the one before us, whose workers may be there.
            handed_over: Cell::new(true),
        })
    }

    /// Removes sockets that are of none of these.
    pub(crate) fn clear_sockets(&self, of_others_than: &[ReplicaId]) -> io::Result<()> {
        let ours = std::iter::once("supervisor".to_owned());
        let kept = of_others_than.iter().map(ToString::to_string);
        let keep: Vec<String> = ours.chain(kept).collect();
        private_folder(&self.run)?;
        for entry in std::fs::read_dir(&self.run)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if !stem.is_some_and(|stem| keep.iter().any(|kept| kept == stem)) {
                remove_tree(&path)?;
            }
        }
        Ok(())
    }

    /// For who comes after us.
    pub(crate) fn lock(&self) -> &File {
        &self.lock
    }

    /// Leaves everything as it is when this ends.
    pub(crate) fn hand_over(&self) {
        self.handed_over.set(true);
    }

    /// It is ours alone from now on.
    pub(crate) fn take_over(&self) {
        self.handed_over.set(false);
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

    /// What was decided about callers.
    pub(crate) fn audit(&self) -> PathBuf {
        self.root.join("audit")
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

    /// Where whoever comes after us reaches a worker.
    pub(crate) fn control_socket(&self, replica: ReplicaId) -> PathBuf {
        self.run.join(format!("{replica}.ctl"))
    }

    /// Removes what a worker that was killed left of its sockets and sessions.
    pub(crate) fn remove_leftovers(&self, replica: ReplicaId) -> io::Result<()> {
        let socket = self.worker_socket(replica);
        let folder = socket.with_extension(SOCKETS_OF_THE_AGENT);
        for removed in [
            std::fs::remove_file(self.control_socket(replica)),
            std::fs::remove_file(socket),
            remove_tree(&folder),
            remove_tree(&self.sessions(replica)),
        ] {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn folders_of(&self, agent: &AgentId, replica: ReplicaId) -> Folders {
        Folders {
            environments: self.root.join("environments"),
            python: self.root.join("python"),
            workspace: self.workspace(agent),
            sessions: self.sessions(replica),
        }
    }

    fn sessions(&self, replica: ReplicaId) -> PathBuf {
        self.root.join("sessions").join(replica.to_string())
    }

    pub(crate) fn agents(&self) -> PathBuf {
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
        if self.handed_over.get() {
            return;
        }
        if let Err(error) = remove_tree(&self.run)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "failed to remove the folder of sockets");
        }
    }
}

fn lock_file(root: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(root.join("lock"))
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Leftovers of an earlier life: nobody else uses this state folder.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        remove_tree(&entry?.path())?;
    }
    Ok(())
}

/// The folder for sockets, the same in every life: workers that outlive one are found there by the next.
fn socket_folder(root: &Path) -> io::Result<PathBuf> {
    let within = root.join("run");
    if within.as_os_str().len() <= LONGEST_SOCKET_FOLDER {
        private_folder(&within)?;
        return Ok(within);
    }
    let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
    let name: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let elsewhere = std::env::temp_dir().join(format!("par-{name}"));
    private_folder(&elsewhere)?;
    check_ours(&elsewhere)?;
    Ok(elsewhere)
}

/// In a folder that all share, somebody else may have been there first.
fn check_ours(folder: &Path) -> io::Result<()> {
    let found = std::fs::symlink_metadata(folder)?;
    let ours = found.is_dir()
        && found.uid() == rustix::process::getuid().as_raw()
        && found.mode() & 0o077 == 0;
    if ours {
        return Ok(());
    }
    let shown = folder.display();
    let words = format!(
        "`{shown}` is not a folder of ours alone: remove it, or name a state folder with a shorter path"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_serves_one_supervisor_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = StateFolder::open(folder.path(), None).expect("free");
        assert!(matches!(
            StateFolder::open(folder.path(), None),
            Err(StateError::Taken(_))
        ));
        drop(first);
        assert!(StateFolder::open(folder.path(), None).is_ok());
    }

    #[test]
    fn a_long_path_still_has_room_for_sockets() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let long = folder.path().join("x".repeat(120));
        let state = StateFolder::open(&long, None).expect("prepared");
        assert_eq!(socket_folder(&long).expect("the same"), state.run);
        let socket = state.worker_socket(ReplicaId(u64::MAX));
        let folder = socket.with_extension(SOCKETS_OF_THE_AGENT);
        assert!(folder.join("door.sock").as_os_str().len() < 108);
    }
}
