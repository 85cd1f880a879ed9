//! The audit log: what was decided, in files that their owner alone can read. A thread of its own writes; what comes
//! faster than it can be kept is counted, and the next entry says how much. Changes, denials and calls have files of
//! their own, so that no flood of one washes away the others.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use par_gateway::Decided;
use par_model::access::{Audit, AuditEntry};

use super::token::{now_ms, rfc3339};

/// Entries that wait to be written.
const WAITING: usize = 8192;
/// Of one file; then the next is begun.
const FILE_BYTES: u64 = 8 << 20;
/// Of one kind, the one that is written included.
const FILES: usize = 8;
/// Entries of one answer.
pub(crate) const MOST_READ: usize = 10_000;

/// Which files an entry goes to.
const KINDS: [&str; 3] = ["changes", "denials", "calls"];

pub(crate) struct AuditLog {
    folder: PathBuf,
    bounds: Bounds,
    sender: Mutex<Option<SyncSender<(usize, AuditEntry)>>>,
    state: Arc<State>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone, Copy)]
struct Bounds {
    file_bytes: u64,
    files: usize,
}

#[derive(Default)]
struct State {
    lost: AtomicU64,
    /// Of the whole life.
    lost_in_all: AtomicU64,
    failing: Mutex<Option<String>>,
}

impl AuditLog {
    pub(crate) fn open(folder: PathBuf) -> io::Result<Arc<Self>> {
        let bounds = Bounds {
            file_bytes: FILE_BYTES,
            files: FILES,
        };
        Self::bounded(folder, bounds)
    }

    fn bounded(folder: PathBuf, bounds: Bounds) -> io::Result<Arc<Self>> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let (sender, entries) = sync_channel(WAITING);
        let state = Arc::<State>::default();
        let writer = Writer {
            shelves: KINDS.map(|kind| Shelf::new(&folder, kind, bounds)),
            state: Arc::clone(&state),
        };
        let writer = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&entries))?;
        Ok(Arc::new(Self {
            folder,
            bounds,
            sender: Mutex::new(Some(sender)),
            state,
            writer: Mutex::new(Some(writer)),
        }))
    }

    /// Never waits.
    pub(crate) fn note(&self, decided: Decided) {
        let kind = match (decided.allowed, decided.is_change) {
            (true, true) => 0,
            (false, _) => 1,
            (true, false) => 2,
        };
        let entry = AuditEntry {
            at: rfc3339(now_ms()),
            caller: decided.caller,
            address: decided.address.map(|address| address.to_string()),
            action: decided.action.to_owned(),
            target: decided.target,
            decision: if decided.allowed { "allow" } else { "deny" }.to_owned(),
            reason: decided.reason,
            request_id: decided.request_id,
            lost_before: 0,
        };
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sender
            .as_ref()
            .is_some_and(|sender| sender.try_send((kind, entry)).is_ok());
        if !sent {
            self.state.lose(1);
        }
    }

    /// Writes what is left; what comes later is lost.
    pub(crate) fn close(&self) {
        drop(
            self.sender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the thread of the audit log panicked");
        }
    }

    /// The newest `limit` entries, newest first. Blocks.
    pub(crate) fn newest(&self, limit: usize) -> io::Result<Audit> {
        let mut entries = vec![];
        for kind in KINDS {
            let shelf = Shelf::new(&self.folder, kind, self.bounds);
            entries.extend(shelf.newest(limit)?);
        }
        entries.sort_by(|one, other| other.at.cmp(&one.at));
        entries.truncate(limit);
        Ok(Audit {
            entries,
            notes: self.state.notes(),
        })
    }
}

impl State {
    fn lose(&self, entries: u64) {
        self.lost.fetch_add(entries, Ordering::Relaxed);
        self.lost_in_all.fetch_add(entries, Ordering::Relaxed);
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self) -> Vec<String> {
        let lost = self.lost_in_all.load(Ordering::Relaxed);
        let lost = (lost > 0).then(|| {
            format!("{lost} entries came faster than they could be kept, or could not be written")
        });
        let failing = self.failing().clone();
        let failing = failing.map(|why| format!("the audit log cannot be written: {why}"));
        lost.into_iter().chain(failing).collect()
    }
}

struct Writer {
    shelves: [Shelf; KINDS.len()],
    state: Arc<State>,
}

impl Writer {
    fn run(mut self, entries: &Receiver<(usize, AuditEntry)>) {
        while let Ok((kind, mut entry)) = entries.recv() {
            entry.lost_before = self.state.lost.swap(0, Ordering::Relaxed);
            let mut line = serde_json::to_vec(&entry).expect("an entry is plain JSON");
            line.push(b'\n');
            match self.shelves[kind].add(&line) {
                Ok(()) => drop(self.state.failing().take()),
                Err(error) => {
                    self.state
                        .lost
                        .fetch_add(entry.lost_before, Ordering::Relaxed);
                    self.state.lose(1);
                    self.fail(&error);
                }
            }
        }
    }

    /// Says so once.
    fn fail(&self, error: &io::Error) {
        let before = self.state.failing().replace(error.to_string());
        if before.is_none() {
            tracing::error!(%error, "the audit log cannot be written: what is decided meanwhile is counted, and lost");
        }
    }
}

/// The files of one kind: `changes.jsonl`, then `changes.1.jsonl`, which is older, and so on.
struct Shelf {
    folder: PathBuf,
    kind: &'static str,
    bounds: Bounds,
    open: Option<(File, u64)>,
}

impl Shelf {
    fn new(folder: &Path, kind: &'static str, bounds: Bounds) -> Self {
        Self {
            folder: folder.to_owned(),
            kind,
            bounds,
            open: None,
        }
    }

    fn path(&self, age: usize) -> PathBuf {
        match age {
            0 => self.folder.join(format!("{}.jsonl", self.kind)),
            age => self.folder.join(format!("{}.{age}.jsonl", self.kind)),
        }
    }

    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let (mut file, size) = match self.open.take() {
            Some((_, size)) if size > 0 && size + line.len() as u64 > self.bounds.file_bytes => {
                self.turn()?;
                self.begin()?
            }
            Some(open) => open,
            None => self.begin()?,
        };
        file.write_all(line)?;
        self.open = Some((file, size + line.len() as u64));
        Ok(())
    }

    fn begin(&self) -> io::Result<(File, u64)> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.path(0))?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    /// Each file becomes one older; the oldest goes.
    fn turn(&self) -> io::Result<()> {
        for age in (0..self.bounds.files - 1).rev() {
            match fs::rename(self.path(age), self.path(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Newest first. A line that a crash has cut is passed over.
    fn newest(&self, limit: usize) -> io::Result<Vec<AuditEntry>> {
        let mut found = vec![];
        for age in 0..self.bounds.files {
            if found.len() >= limit {
                break;
            }
            let bytes = match fs::read(self.path(age)) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let lines = bytes.rsplit(|byte| *byte == b'\n');
            let entries = lines.filter_map(|line| serde_json::from_slice(line).ok());
            found.extend(entries.take(limit - found.len()));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn decided(target: &str, allowed: bool) -> Decided {
        Decided {
            caller: "token:ci".to_owned(),
            address: None,
            action: "deploy",
            target: target.to_owned(),
            allowed,
            is_change: true,
            reason: "allowed".to_owned(),
            request_id: None,
        }
    }

    fn log(folder: &Path, file_bytes: u64) -> Arc<AuditLog> {
        let bounds = Bounds {
            file_bytes,
            files: 3,
        };
        AuditLog::bounded(folder.join("audit"), bounds).expect("a log")
    }

    #[test]
    fn entries_outlive_the_log_and_their_files_are_private() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = log(folder.path(), 1 << 20);
        first.note(decided("one", true));
        first.note(decided("two", false));
        first.close();
        let second = log(folder.path(), 1 << 20);
        let read = second.newest(10).expect("readable");
        let targets: Vec<_> = read
            .entries
            .iter()
            .map(|entry| entry.target.as_str())
            .collect();
        assert_eq!(targets.len(), 2);
        assert!(targets.contains(&"one") && targets.contains(&"two"));
        let mode = |name: &str| {
            let path = folder.path().join("audit").join(name);
            fs::metadata(path).expect("there").permissions().mode() & 0o777
        };
        assert_eq!(
            (mode("changes.jsonl"), mode("denials.jsonl"), mode("")),
            (0o600, 0o600, 0o700)
        );
    }

    #[test]
    fn a_flood_of_denials_is_bounded_and_washes_no_change_away() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = log(folder.path(), 2048);
        log.note(decided("the change", true));
        for number in 0..500 {
            log.note(decided(&number.to_string(), false));
        }
        log.close();
        let files = fs::read_dir(folder.path().join("audit")).expect("a folder");
        let sizes: Vec<u64> = files
            .map(|file| file.expect("one").metadata().expect("known").len())
            .collect();
        assert_eq!(sizes.len(), 4, "one of changes, three of denials");
        assert!(sizes.iter().all(|size| *size <= 2048), "{sizes:?}");
        let read = log.newest(MOST_READ).expect("readable");
        assert!(
            read.entries
                .iter()
                .any(|entry| entry.target == "the change")
        );
        assert!(read.entries.iter().any(|entry| entry.target == "499"));
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_said() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = log(folder.path(), 1 << 20);
        log.close();
        log.note(decided("late", true));
        let read = log.newest(1).expect("readable");
        assert!(read.entries.is_empty());
        assert!(read.notes[0].starts_with("1 entries"), "{:?}", read.notes);
    }
}
