//! The file itself: made, checked before anything is changed, and copied while it is good.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::{StoreError, WayBack};
use crate::schema;

/// A supervisor that is just ending still writes for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of a database.
const SMALLEST: u64 = 512;

/// The names of a state folder that belong to us.
pub(crate) struct Place {
    folder: PathBuf,
    pub(crate) file: PathBuf,
    copy: PathBuf,
}

impl Place {
    pub(crate) fn within(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            file: folder.join("par.db"),
            copy: folder.join("par.db.last-good"),
        }
    }

    pub(crate) fn secrets(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    /// What a failure of SQLite means here.
    pub(crate) fn failed(
        &self,
        attempted: &'static str,
    ) -> impl Fn(rusqlite::Error) -> StoreError + Copy + '_ {
        move |error| self.meaning(attempted, error)
    }

    fn meaning(&self, attempted: &'static str, error: rusqlite::Error) -> StoreError {
        let file = self.file.clone();
        if let rusqlite::Error::InvalidColumnType(_, column, _) = error {
            return StoreError::Unreadable { file, column };
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full {
                file,
                source: error.into(),
            },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked(file),
            Some(ErrorCode::NotADatabase) => StoreError::NotADatabase {
                file,
                way_back: self.way_back(),
            },
            Some(ErrorCode::DatabaseCorrupt) => self.corrupt(error.to_string()),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                StoreError::NotWritable {
                    folder: self.folder.clone(),
                    source: error.into(),
                }
            }
            _ => StoreError::Failed {
                attempted,
                file,
                source: error.into(),
            },
        }
    }

    pub(crate) fn io_failed(&self, attempted: &'static str, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full {
                file: self.file.clone(),
                source: error.into(),
            },
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory => StoreError::NotWritable {
                folder: self.folder.clone(),
                source: error.into(),
            },
            _ => StoreError::Failed {
                attempted,
                file: self.file.clone(),
                source: error.into(),
            },
        }
    }

    pub(crate) fn secrets_failed(&self, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.io_failed("write", error)
            }
            _ => StoreError::Secrets {
                folder: self.secrets(),
                source: error,
            },
        }
    }

    fn corrupt(&self, finding: String) -> StoreError {
        StoreError::Corrupt {
            file: self.file.clone(),
            finding,
            way_back: self.way_back(),
        }
    }

    fn way_back(&self) -> WayBack {
        WayBack::of(&self.file, &self.copy)
    }

    /// A connection to a file that is ours, whole, and of this version.
    pub(crate) fn connect(&self) -> Result<Connection, StoreError> {
        self.make()?;
        let failed = self.failed("open");
        // What follows must not close the file by another descriptor: that would give up SQLite's locks on it.
        let connection = Connection::open_with_flags(&self.file, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(failed)?;
        // While it is not known to be ours and whole, the end of this connection leaves it as it is.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(failed)?;
        connection.busy_timeout(LOCK_PATIENCE).map_err(failed)?;
        // Nobody else may read or write it meanwhile, and no shared memory is needed.
        connection
            .pragma_update(None, "locking_mode", "EXCLUSIVE")
            .map_err(failed)?;
        let version = self.check(&connection)?;
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .map_err(failed)?;
        // It may have been copied or made by other hands.
        fs::set_permissions(&self.file, Permissions::from_mode(0o600))
            .map_err(|error| self.io_failed("protect", error))?;
        settle(&connection).map_err(failed)?;
        self.migrate(connection, version)
    }

    /// Makes an empty file if there is none; a copy without its file is no reason to begin anew.
    fn make(&self) -> Result<(), StoreError> {
        let failed = |error| self.io_failed("make", error);
        // Not opened: closing it again would take the locks from whoever has it open in this process.
        let found = match fs::metadata(&self.file) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        match found {
            // SQLite takes a smaller file for an empty one.
            Some(found) if !found.is_file() || (1..SMALLEST).contains(&found.len()) => {
                Err(StoreError::NotADatabase {
                    file: self.file.clone(),
                    way_back: self.way_back(),
                })
            }
            Some(found) if found.len() > 0 => Ok(()),
            _ if self.copy.is_file() => Err(StoreError::Gone {
                file: self.file.clone(),
                way_back: self.way_back(),
            }),
            Some(_) => Ok(()),
            None => OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&self.file)
                .map(drop)
                .map_err(failed),
        }
    }

    /// The version of the tables; nothing is changed.
    fn check(&self, connection: &Connection) -> Result<u32, StoreError> {
        let failed = self.failed("read");
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0));
        let owner: u32 = number("application_id").map_err(failed)?;
        let version = schema::version(connection).map_err(failed)?;
        if owner != schema::APPLICATION_ID {
            let entries = "SELECT count(*) FROM sqlite_schema";
            let entries: u64 = connection
                .query_row(entries, [], |row| row.get(0))
                .map_err(failed)?;
            return match (owner, version, entries) {
                (0, 0, 0) => Ok(0),
                _ => Err(StoreError::Foreign(self.file.clone())),
            };
        }
        if version > schema::VERSION {
            return Err(StoreError::Newer {
                file: self.file.clone(),
                found: version,
                known: schema::VERSION,
            });
        }
        let finding: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(failed)?;
        match finding.as_str() {
            "ok" => Ok(version),
            _ => Err(self.corrupt(finding)),
        }
    }

    fn migrate(&self, mut connection: Connection, version: u32) -> Result<Connection, StoreError> {
        let failed = self.failed("prepare");
        if version < schema::VERSION {
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(failed)?;
            schema::migrate(&transaction, version).map_err(failed)?;
            transaction.commit().map_err(failed)?;
        }
        Ok(connection)
    }

    /// Puts a copy of what is wanted beside the file, whole or not at all.
    pub(crate) fn keep_copy(&self, connection: &Connection) -> Result<(), StoreError> {
        let next = self.folder.join("par.db.next-copy");
        self.write_copy(connection, &next)
            .inspect_err(|_| {
                // The reason why it failed says more than why the remains could not be removed.
                let _remains = fs::remove_file(&next);
            })
            .and_then(|()| {
                let renamed = File::open(&next)
                    .and_then(|file| file.sync_all())
                    .and_then(|()| fs::rename(&next, &self.copy))
                    .and_then(|()| File::open(&self.folder)?.sync_all());
                renamed.map_err(|error| self.io_failed("copy", error))
            })
    }

    fn write_copy(&self, connection: &Connection, next: &Path) -> Result<(), StoreError> {
        let failed = self.failed("copy");
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(next)
            .map_err(|error| self.io_failed("copy", error))?;
        let mut copy = Connection::open(next).map_err(failed)?;
        // It gets its name only when it is whole.
        copy.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))
            .and_then(|()| copy.pragma_update(None, "synchronous", "OFF"))
            .map_err(failed)?;
        let transaction = copy.transaction().map_err(failed)?;
        schema::migrate(&transaction, 0).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        copy.close().map_err(|(_, error)| failed(error))?;
        let path = next.to_str().map(str::to_owned);
        connection
            .execute("ATTACH ?1 AS copy", [path])
            .map_err(failed)?;
        let copied = fill_copy(connection);
        let detached = connection.execute_batch("DETACH copy");
        copied.and(detached).map_err(failed)
    }
}

fn fill_copy(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA copy.journal_mode = OFF; PRAGMA copy.synchronous = OFF")?;
    for table in schema::worth_a_copy(connection)? {
        connection.execute_batch(&format!(
            "INSERT OR REPLACE INTO copy.{table} SELECT * FROM main.{table}"
        ))?;
    }
    Ok(())
}

/// A commit is one write at the end of the log and one wait for the disk.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update_and_check(None, "journal_size_limit", 4 << 20, |_| Ok(()))
}
