//! Values that nobody but the owner may read: one sealed file a release, apart from the database.
//!
//! A file has a name of its own, is whole on disk before a commit speaks of it, and goes when its release has gone. So
//! whatever the moment of a power cut: what is kept finds its secrets, and a file that nobody speaks of is swept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use par_model::AgentId;
use rusqlite::Connection;
use zeroize::Zeroizing;

use crate::rows;
use crate::seal::Key;

/// Names and values. Has no `Debug`, so that they stand in no log by accident.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(pub BTreeMap<String, String>);

/// The secrets of one kept release, on disk. Only [`KeptSecrets::read`] brings values into memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptSecrets {
    pub(crate) names: BTreeSet<String>,
    /// `None` when there are none.
    pub(crate) file: Option<SealedFile>,
}

/// A file of secrets, and what opens it. Shows its path alone.
#[derive(Clone)]
pub(crate) struct SealedFile {
    path: PathBuf,
    purpose: String,
    key: Arc<Key>,
}

impl fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl PartialEq for SealedFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for SealedFile {}

/// Why a release cannot be started: its secrets are not there as they were given.
#[derive(Debug, thiserror::Error)]
pub enum SecretsUnusable {
    #[error("the secrets `{}` are gone: deploy the agent again with its secrets", .0.display())]
    Missing(PathBuf),
    #[error("the secrets `{}` can be read by others (mode {mode:04o}): change them where they are used, `chmod 600` the file, then start the agent", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the secrets `{}` belong to another user ({owner}): deploy the agent again with its secrets", path.display())]
    NotOurs { path: PathBuf, owner: u32 },
    #[error("the secrets `{}` are damaged: deploy the agent again with its secrets", .0.display())]
    Damaged(PathBuf),
    #[error("failed to read the secrets `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// More cannot have been written by us.
const LARGEST_FILE: u64 = 64 << 20;

impl KeptSecrets {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The values, as they are on disk now.
    pub fn read(&self) -> Result<Secrets, SecretsUnusable> {
        let Some(file) = &self.file else {
            return Ok(Secrets::default());
        };
        let values = file.read()?;
        match values.0.keys().eq(&self.names) {
            true => Ok(values),
            false => Err(SecretsUnusable::Damaged(file.path.clone())),
        }
    }
}

impl SealedFile {
    fn read(&self) -> Result<Secrets, SecretsUnusable> {
        let path = &self.path;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => SecretsUnusable::Missing(path.clone()),
            _ => SecretsUnusable::Read {
                path: path.clone(),
                source,
            },
        };
        let file = File::open(path).map_err(failed)?;
        check_owner(path, &file.metadata().map_err(failed)?)?;
        let mut bytes = Zeroizing::new(vec![]);
        file.take(LARGEST_FILE)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        // The parser's own words could repeat a value.
        let damaged = || SecretsUnusable::Damaged(path.clone());
        let plain = match is_plain(path) {
            true => bytes,
            false => {
                let unsealed = self.key.unseal(&self.purpose, &bytes);
                unsealed.ok_or_else(damaged)?
            }
        };
        serde_json::from_slice(&plain)
            .map(Secrets)
            .map_err(|_| damaged())
    }
}

/// Written before secrets were sealed, and not yet sealed because something is wrong with it.
fn is_plain(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "json")
}

fn purpose(agent: &AgentId, number: u32) -> String {
    format!("par/release/{agent}/{number}")
}

fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), SecretsUnusable> {
    let path = path.to_owned();
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() {
        return Err(SecretsUnusable::Damaged(path));
    }
    if mode & 0o077 != 0 {
        return Err(SecretsUnusable::Exposed { path, mode });
    }
    let owner = metadata.uid();
    // The folder is ours: whoever opened the store made it or owns it.
    let ours = path
        .parent()
        .and_then(|folder| fs::metadata(folder).ok())
        .is_none_or(|folder| folder.uid() == owner);
    match ours {
        true => Ok(()),
        false => Err(SecretsUnusable::NotOurs { path, owner }),
    }
}

/// `{state}/secrets`
pub(crate) struct SecretsFolder {
    path: PathBuf,
    key: Arc<Key>,
}

impl SecretsFolder {
    pub(crate) fn open(path: PathBuf, key: Key) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        let key = Arc::new(key);
        Ok(Self { path, key })
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The file of a release.
    pub(crate) fn sealed(&self, name: &str, agent: &AgentId, number: u32) -> SealedFile {
        SealedFile {
            path: self.file(name),
            purpose: purpose(agent, number),
            key: Arc::clone(&self.key),
        }
    }

    /// Writes the secrets of a release under a name that no release ever had. They are on disk when this returns.
    pub(crate) fn write(
        &self,
        agent: &AgentId,
        number: u32,
        secrets: &Secrets,
    ) -> io::Result<String> {
        let mut file = tempfile::Builder::new()
            .prefix(&format!("{agent}.{number}."))
            .suffix(".sealed")
            .rand_bytes(12)
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.path)?;
        let text = Zeroizing::new(serde_json::to_vec(&secrets.0)?);
        file.write_all(&self.key.seal(&purpose(agent, number), &text)?)?;
        file.as_file().sync_all()?;
        File::open(&self.path)?.sync_all()?;
        let (_, path) = file.keep().map_err(|failed| failed.error)?;
        let name = path.file_name().and_then(|name| name.to_str());
        Ok(name.expect("made of an agent id and digits").to_owned())
    }

    /// Seals what an earlier version wrote down as it was. What cannot be read stays as it is, and is said when its release
    /// is to be started.
    pub(crate) fn seal_plain(&self, connection: &Connection) -> rusqlite::Result<()> {
        for (agent, number, name) in rows::plain_secrets_files(connection)? {
            let Ok(secrets) = self.sealed(&name, &agent, number).read() else {
                continue;
            };
            match self.write(&agent, number, &secrets) {
                Ok(sealed) => {
                    rows::set_secrets_file(connection, &agent, number, &sealed)?;
                    self.remove(&name);
                }
                Err(error) => {
                    tracing::warn!(%agent, release = number, %error, "failed to seal secrets that lie open on the disk");
                }
            }
        }
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str) {
        let path = self.file(name);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "failed to remove secrets that nobody needs any more");
        }
    }

    /// Removes what no release speaks of.
    pub(crate) fn sweep(&self, in_use: &BTreeSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if let Some(name) = name.to_str().filter(|name| !in_use.contains(*name)) {
                self.remove(name);
            }
        }
        Ok(())
    }
}
