//! The token of whoever owns the state folder, in a file that nobody else can read: the way in for the machine's own
//! operator where everybody else needs a token. It is another one each time that a supervisor begins to serve, and says
//! where it is good for, so that no other program that listens there later can do anything with it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use par_access::{KeptToken, Standing};
use par_model::Scope;
use serde::{Deserialize, Serialize};

use super::token::{OPERATOR, new_token, now_ms};

/// In the state folder.
pub const OPERATOR_FILE: &str = "operator.json";

/// What stands in the file. Has no `Debug`.
#[derive(Serialize, Deserialize)]
pub struct OperatorToken {
    /// Where it is good for.
    pub port: u16,
    pub token: String,
}

impl OperatorToken {
    /// Of the supervisor that serves from a state folder on this port, if whoever asks may read it.
    pub fn read(state: &Path, port: u16) -> Option<Self> {
        let text = fs::read(state.join(OPERATOR_FILE)).ok()?;
        let token: Self = serde_json::from_slice(&text).ok()?;
        (token.port == port).then_some(token)
    }
}

/// The file, written when we serve, and removed again at an orderly end.
pub(crate) struct OperatorFile {
    path: PathBuf,
    said: OperatorToken,
}

impl OperatorFile {
    /// A new token, which nobody can read yet.
    pub(crate) fn new(state: &Path, port: u16) -> io::Result<(Self, KeptToken)> {
        let token = new_token()?;
        let known = KeptToken {
            id: token.id,
            name: OPERATOR.parse().expect("a valid name"),
            hash: token.hash(),
            standing: Standing {
                scopes: [Scope::Admin].into(),
                ..Standing::default()
            },
            created_at_ms: now_ms(),
            expires_at_ms: None,
        };
        let file = Self {
            path: state.join(OPERATOR_FILE),
            said: OperatorToken {
                port,
                token: token.expose(),
            },
        };
        Ok((file, known))
    }

    /// Whole or not at all.
    pub(crate) fn write(&self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        // Not one that is there already, with whatever rights and owner it has.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(&self.said)?)?;
        fs::rename(new, &self.path)
    }

    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "failed to remove the operator's token, which is of no use any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_its_owners_alone_and_good_for_one_port() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = || {
            let (file, known) = OperatorFile::new(folder.path(), 8000).expect("random");
            file.write().expect("written");
            (file, known)
        };
        let (file, known) = write();
        let mode = fs::metadata(folder.path().join(OPERATOR_FILE))
            .expect("there")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let token = OperatorToken::read(folder.path(), 8000).expect("readable");
        assert!(token.token.contains(&known.id.to_string()));
        assert!(OperatorToken::read(folder.path(), 8001).is_none());
        let (_, next) = write();
        assert_ne!(next.id, known.id);
        file.remove();
        assert!(OperatorToken::read(folder.path(), 8000).is_none());
    }
}
