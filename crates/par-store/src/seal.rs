//! Secrets at rest are sealed: XChaCha20-Poly1305 under one key, a nonce of their own each, bound to what they are for.
//!
//! The key lies in `{state}/secret.key` unless it comes from elsewhere. It is made once, when there is nothing sealed yet;
//! whatever is wrong with it later is said, and never mended with another key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;

pub const KEY_LENGTH: usize = 32;
const NONCE_LENGTH: usize = 24;
/// What a key is told by.
const PROOF: &str = "par/key";

/// Where the key of a state folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// `secret.key` in the state folder; made when there is none and nothing was sealed yet.
    StateFolder,
    /// 32 bytes that somebody else has made. Readable by its owner only.
    File(PathBuf),
    /// The same, from a folder that is this service's alone: its group may read it.
    Credential(PathBuf),
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the key of the secrets `{}` is gone: put it back; without it, what is sealed cannot be read by anybody", .0.display())]
    Gone(PathBuf),
    #[error("the key of the secrets `{}` can be read by others (mode {mode:04o}): `chmod 600` it", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the key of the secrets `{}` belongs to another user ({owner})", path.display())]
    NotOurs { path: PathBuf, owner: u32 },
    #[error("the key of the secrets `{}` is no file of {KEY_LENGTH} bytes", .0.display())]
    Odd(PathBuf),
    #[error("the key of the secrets `{}` is not the one that the state file was made with: put that one back", .0.display())]
    Wrong(PathBuf),
    #[error("failed to {attempted} the key of the secrets `{}`", path.display())]
    Failed {
        attempted: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Has no `Debug`. Is wiped when it is dropped.
pub(crate) struct Key {
    bytes: Zeroizing<[u8; KEY_LENGTH]>,
    path: PathBuf,
}

impl Key {
    /// The key that everything so far was sealed with, which `proof` tells.
    pub(crate) fn known(source: &KeySource, folder: &Path, proof: &[u8]) -> Result<Self, KeyError> {
        let key = Self::read(source, folder)?;
        match key.unseal(PROOF, proof) {
            Some(_) => Ok(key),
            None => Err(KeyError::Wrong(key.path)),
        }
    }

    /// The key of a folder in which nothing is sealed yet, and what will tell it again.
    pub(crate) fn first(source: &KeySource, folder: &Path) -> Result<(Self, Vec<u8>), KeyError> {
        let key = match Self::read(source, folder) {
            Err(KeyError::Gone(path)) if *source == KeySource::StateFolder => {
                Self::make(folder, path)?
            }
            read => read?,
        };
        let proof = key.seal(PROOF, &[]).map_err(|source| KeyError::Failed {
            attempted: "use",
            path: key.path.clone(),
            source,
        })?;
        Ok((key, proof))
    }

    fn read(source: &KeySource, folder: &Path) -> Result<Self, KeyError> {
        let (path, others) = match source {
            KeySource::StateFolder => (folder.join("secret.key"), 0o077),
            KeySource::File(path) => (path.clone(), 0o077),
            KeySource::Credential(path) => (path.clone(), 0o037),
        };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => KeyError::Gone(path.clone()),
            _ => KeyError::Failed {
                attempted: "read",
                path: path.clone(),
                source,
            },
        };
        let mut file = File::open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        let (mode, owner) = (found.mode() & 0o7777, found.uid());
        if !found.is_file() || found.len() != KEY_LENGTH as u64 {
            return Err(KeyError::Odd(path));
        }
        if mode & others != 0 {
            return Err(KeyError::Exposed { path, mode });
        }
        let ours = rustix::process::geteuid().as_raw();
        if owner != ours && owner != 0 {
            return Err(KeyError::NotOurs { path, owner });
        }
        let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
        file.read_exact(&mut *bytes).map_err(failed)?;
        Ok(Self { bytes, path })
    }

    /// It is on disk, whole and under its name, before anything is sealed with it.
    fn make(folder: &Path, path: PathBuf) -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
        let written = (|| {
            random(&mut *bytes)?;
            let next = folder.join("secret.key.new");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&next)?;
            file.write_all(&*bytes)?;
            file.sync_all()?;
            fs::rename(&next, &path)?;
            File::open(folder)?.sync_all()
        })();
        match written {
            Ok(()) => Ok(Self { bytes, path }),
            Err(source) => Err(KeyError::Failed {
                attempted: "make",
                path,
                source,
            }),
        }
    }

    /// `purpose`: what it is for; with another one it cannot be unsealed.
    pub(crate) fn seal(&self, purpose: &str, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LENGTH];
        random(&mut nonce)?;
        let payload = Payload {
            msg: plain,
            aad: purpose.as_bytes(),
        };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| io::Error::other("too long to be sealed"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// `None`: it was sealed with another key, for another purpose, or is not what was sealed.
    pub(crate) fn unseal(&self, purpose: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LENGTH)?;
        let nonce: [u8; NONCE_LENGTH] = nonce.try_into().ok()?;
        let payload = Payload {
            msg: sealed,
            aad: purpose.as_bytes(),
        };
        let plain = self.cipher().decrypt(&XNonce::from(nonce), payload);
        plain.ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new_from_slice(&*self.bytes).expect("a key has the length of a key")
    }
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    // So few bytes come whole.
    getrandom(bytes, GetRandomFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(folder: &Path) -> Key {
        let made = Key::first(&KeySource::StateFolder, folder);
        made.map(|(key, _)| key)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_with_its_key_and_as_it_was() {
        let (folder, other) = (tempfile::tempdir(), tempfile::tempdir());
        let (folder, other) = (folder.expect("a folder"), other.expect("a folder"));
        let own = key(folder.path());
        let sealed = own.seal("a", b"value").expect("sealed");
        assert!(!sealed.windows(5).any(|part| part == b"value"));
        let again = key(folder.path());
        assert_eq!(
            again.unseal("a", &sealed).expect("the same key").as_slice(),
            b"value"
        );
        assert!(own.unseal("b", &sealed).is_none());
        assert!(key(other.path()).unseal("a", &sealed).is_none());
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(own.unseal("a", &changed).is_none(), "{index}");
            assert!(own.unseal("a", &sealed[..index]).is_none(), "{index}");
        }
    }

    #[test]
    fn the_same_value_is_never_sealed_to_the_same_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = key(folder.path());
        let sealed = || key.seal("a", b"value").expect("sealed");
        assert_ne!(sealed(), sealed());
    }
}
