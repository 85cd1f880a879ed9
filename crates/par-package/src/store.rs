//! Where packages live: `{root}/{digest}`, each appearing whole by one rename, or not at all.
//!
//! ```text
//! {root}/.lock                    shared while a package is taken in, exclusive while leftovers are swept
//! {root}/.incoming-xxxx/copy      the bytes being checked: nobody can change them meanwhile
//! {root}/.incoming-xxxx/unpacked  ──rename──▶ {root}/{digest}
//! ```
//!
//! Agents may run as the user who owns the store, and one of them can change what another one runs. So a package that
//! is there already is compared with its archive, and changes places with a fresh one where it differs.

mod remove;

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use par_model::PackageDigest;
pub use remove::remove_tree;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::archive::Archive;
use crate::package::Package;
use crate::{Limits, PackageError};

const INCOMING: &str = ".incoming-";
const LOCK: &str = ".lock";

#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Makes the folder if it is not there, and removes what a killed process left half-done.
    pub fn open(root: &Path) -> Result<Self, PackageError> {
        let store = Self {
            root: root.to_owned(),
        };
        fs::create_dir_all(root).map_err(|source| store.failed(source))?;
        store.sweep().map_err(|source| store.failed(source))?;
        Ok(store)
    }

    /// Checks a package and unpacks it, unless it is there already as its archive has it.
    pub fn admit(&self, apkg: &Path, limits: &Limits) -> Result<Package, PackageError> {
        let _admitting = self.lock_shared().map_err(|source| self.failed(source))?;
        let incoming = tempfile::Builder::new()
            .prefix(INCOMING)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&self.root)
            .map_err(|source| self.failed(source))?;
        let mut source = open_plain_file(apkg)?;
        let copy = self.copy(&mut source, apkg, &incoming, limits)?;
        let stored = self.root.join(copy.digest.as_str());
        let mut archive = Archive::open(BufReader::new(copy.file), copy.bytes, limits)?;
        let meaning = archive.papers()?.understand(limits)?;
        if !archive.is_unpacked_in(&stored)? {
            let unpacked = self.unpack(&mut archive, &incoming)?;
            self.place(&mut archive, &unpacked, &stored)?;
        }
        Ok(Package::new(copy.digest, stored, meaning))
    }

    /// The package with that digest, if it was admitted.
    pub fn get(&self, digest: &PackageDigest) -> Result<Option<Package>, PackageError> {
        let stored = self.root.join(digest.as_str());
        if stored.is_dir() {
            Package::open(&stored).map(Some)
        } else {
            Ok(None)
        }
    }

    fn unpack<R: Read + Seek>(
        &self,
        archive: &mut Archive<R>,
        incoming: &TempDir,
    ) -> Result<PathBuf, PackageError> {
        let unpacked = incoming.path().join("unpacked");
        fs::create_dir(&unpacked)
            .and_then(|()| fs::set_permissions(&unpacked, Permissions::from_mode(0o755)))
            .map_err(|source| self.failed(source))?;
        archive.unpack(&unpacked)?;
        Ok(unpacked)
    }

    /// Puts what was unpacked in its place, one at a time: a good package that another one has placed meanwhile, and
    /// may run already, stays.
    fn place<R: Read + Seek>(
        &self,
        archive: &mut Archive<R>,
        unpacked: &Path,
        stored: &Path,
    ) -> Result<(), PackageError> {
        let _placing = File::open(&self.root)
            .and_then(|root| root.lock().map(|()| root))
            .map_err(|source| self.failed(source))?;
        if archive.is_unpacked_in(stored)? {
            return Ok(());
        }
        put(unpacked, stored).map_err(|source| self.failed(source))
    }

    /// Copies the package into the private folder, so that what is checked is what is unpacked.
    fn copy(
        &self,
        source: &mut File,
        path: &Path,
        incoming: &TempDir,
        limits: &Limits,
    ) -> Result<Copy, PackageError> {
        let unreadable = |source| PackageError::Open {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(incoming.path().join("copy"))
            .map_err(|source| self.failed(source))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        let mut bytes = 0_u64;
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error)),
            };
            bytes += count as u64;
            if bytes > limits.packed_bytes {
                return Err(PackageError::TooLarge {
                    limit: limits.packed_bytes,
                });
            }
            hash.update(&buffer[..count]);
            file.write_all(&buffer[..count])
                .map_err(|source| self.failed(source))?;
        }
        file.rewind().map_err(|source| self.failed(source))?;
        let digest = PackageDigest::of_sha256(hash.finalize().into());
        Ok(Copy {
            file,
            digest,
            bytes,
        })
    }

    fn sweep(&self) -> io::Result<()> {
        let lock = self.lock_file()?;
        match lock.try_lock() {
            Ok(()) => {}
            // Somebody is taking a package in: the folder is in use, not left behind.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(INCOMING.as_bytes())
            {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    fn lock_shared(&self) -> io::Result<File> {
        let lock = self.lock_file()?;
        lock.lock_shared()?;
        Ok(lock)
    }

    fn lock_file(&self) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.root.join(LOCK))
    }

    fn failed(&self, source: io::Error) -> PackageError {
        PackageError::Store {
            path: self.root.clone(),
            source,
        }
    }
}

/// Renames, or exchanges with what is there: at no moment is the place empty.
fn put(unpacked: &Path, stored: &Path) -> io::Result<()> {
    match fs::symlink_metadata(stored) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return fs::rename(unpacked, stored);
        }
        Err(error) => return Err(error),
        // A folder that we may not write to cannot move into another one.
        Ok(found) if found.is_dir() => {
            fs::set_permissions(stored, Permissions::from_mode(0o755))?;
        }
        Ok(_) => {}
    }
    renameat_with(CWD, unpacked, CWD, stored, RenameFlags::EXCHANGE)?;
    // What stays of it lies among the incoming, and is swept when the store opens next.
    let _swept_later = remove_tree(unpacked);
    Ok(())
}

/// The digest of a whole file, and its size; the file is then at its start again.
pub(crate) fn digest_of(file: &mut File) -> io::Result<(PackageDigest, u64)> {
    let mut hash = Sha256::new();
    let mut reader = BufReader::with_capacity(64 << 10, &mut *file);
    let mut bytes = 0_u64;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            break;
        }
        hash.update(chunk);
        let count = chunk.len();
        bytes += count as u64;
        reader.consume(count);
    }
    file.rewind()?;
    Ok((PackageDigest::of_sha256(hash.finalize().into()), bytes))
}

/// The bytes of a package in the private folder.
struct Copy {
    file: File,
    digest: PackageDigest,
    bytes: u64,
}

/// Opens without waiting: a pipe in the place of a package must not hold anybody up.
pub(crate) fn open_plain_file(path: &Path) -> Result<File, PackageError> {
    let failed = |source| PackageError::Open {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(PackageError::NotAFile(path.to_owned()));
    }
    File::open(path).map_err(failed)
}
