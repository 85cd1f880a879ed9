//! Where packages live: `{root}/{digest}`, each appearing whole by one rename, or not at all.
//!
//! ```text
//! {root}/.lock                    shared while a package is taken in, exclusive while leftovers are swept
//! {root}/.incoming-xxxx/copy      the bytes being checked: nobody can change them meanwhile
//! {root}/.incoming-xxxx/unpacked  ──rename──▶ {root}/{digest}
//! ```

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use par_model::PackageDigest;
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

    /// Checks a package and unpacks it; one that is there already is only read.
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
        if stored.is_dir() {
            return Package::open(&stored);
        }
        self.unpack(copy, &incoming, &stored, limits)
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

    fn unpack(
        &self,
        copy: Copy,
        incoming: &TempDir,
        stored: &Path,
        limits: &Limits,
    ) -> Result<Package, PackageError> {
        let mut archive = Archive::open(BufReader::new(copy.file), copy.bytes, limits)?;
        let meaning = archive.papers()?.understand(limits)?;
        let unpacked = incoming.path().join("unpacked");
        fs::create_dir(&unpacked)
            .and_then(|()| fs::set_permissions(&unpacked, Permissions::from_mode(0o755)))
            .map_err(|source| self.failed(source))?;
        archive.unpack(&unpacked)?;
        match fs::rename(&unpacked, stored) {
            Ok(()) => Ok(Package::new(copy.digest, stored.to_owned(), meaning)),
            // Somebody else admitted the same bytes meanwhile.
            Err(_) if stored.is_dir() => Package::open(stored),
            Err(source) => Err(self.failed(source)),
        }
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
                fs::remove_dir_all(entry.path())?;
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
