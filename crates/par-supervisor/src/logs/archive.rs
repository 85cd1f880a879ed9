//! The files of all agents, and their bounds. Knows no thread: whoever owns it writes.
//!
//! An agent's lines go to its newest file. When that is full, or covers its share of the days, the next one is begun; the
//! oldest files go when there are too many, when they are too old, or when all agents together have too much.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use par_model::AgentId;

use super::settings::LogSettings;
use super::{Entry, segments};

/// Files that are held open.
const MOST_OPEN: usize = 64;
/// Bytes that are written at once, about.
const PORTION: usize = 256 << 10;
/// A first line is not longer.
const LONGEST_LINE: u64 = 2 << 20;

pub(super) struct Archive {
    root: PathBuf,
    settings: LogSettings,
    /// Known once the folders were looked at.
    agents: Option<BTreeMap<AgentId, Files>>,
    bytes: u64,
    /// Counts uses, to find the file that was not used for longest.
    uses: u64,
}

#[derive(Default)]
struct Files {
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    open: Option<Open>,
}

struct Segment {
    first: u64,
    bytes: u64,
    /// When its newest line was written, in milliseconds since 1970.
    newest_ms: u64,
}

/// The newest file, held open.
struct Open {
    file: File,
    /// When its first line was written.
    oldest_ms: u64,
    used: u64,
}

/// What could not be kept.
pub(super) struct Unkept {
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

impl Archive {
    pub(super) fn new(root: &Path, settings: LogSettings) -> Self {
        Self {
            root: root.to_owned(),
            settings,
            agents: None,
            bytes: 0,
            uses: 0,
        }
    }

    /// Appends lines of one agent, in their order.
    pub(super) fn write(&mut self, agent: &AgentId, entries: &[Arc<Entry>]) -> Result<(), Unkept> {
        let mut left = entries;
        let mut portion = vec![];
        while !left.is_empty() {
            let unkept = |error| Unkept {
                lines: left.len() as u64,
                error,
            };
            let count = self
                .begin_portion(agent, left, &mut portion)
                .map_err(unkept)?;
            self.append(agent, &portion, left[count - 1].line.at_ms)
                .map_err(unkept)?;
            left = &left[count..];
        }
        self.prune_all(Some(agent))
            .map_err(|error| Unkept { lines: 0, error })
    }

    /// Removes the files of one agent, or of all.
    pub(super) fn clear(&mut self, agent: Option<&AgentId>) -> io::Result<()> {
        let doomed: Vec<AgentId> = match agent {
            Some(agent) => vec![agent.clone()],
            None => segments::agents(&self.root)?,
        };
        for agent in doomed {
            if let Some(agents) = &mut self.agents
                && let Some(files) = agents.remove(&agent)
            {
                self.bytes -= files.bytes();
            }
            gone(std::fs::remove_dir_all(self.root.join(agent.as_str())))?;
        }
        Ok(())
    }

    /// Removes what is too old by now, and the folders of agents that have nothing left.
    pub(super) fn sweep(&mut self, now_ms: u64) -> io::Result<()> {
        let oldest = now_ms.saturating_sub(self.settings.age_ms());
        self.known()?;
        let agents: Vec<AgentId> = self
            .agents
            .iter()
            .flatten()
            .map(|(agent, _)| agent.clone())
            .collect();
        for agent in agents {
            while self
                .files(&agent)?
                .segments
                .front()
                .is_some_and(|segment| segment.newest_ms < oldest)
            {
                self.remove_oldest(&agent)?;
            }
            if self.files(&agent)?.segments.is_empty() {
                self.clear(Some(&agent))?;
            }
        }
        self.prune_all(None)
    }

    /// Makes sure that the newest file takes the first of `entries`; puts as many as it takes into `portion`.
    fn begin_portion(
        &mut self,
        agent: &AgentId,
        entries: &[Arc<Entry>],
        portion: &mut Vec<u8>,
    ) -> io::Result<usize> {
        portion.clear();
        segments::encode(&entries[0], portion);
        let (file_bytes, slice_ms) = (self.settings.file_bytes, self.settings.slice_ms());
        let at_ms = entries[0].line.at_ms;
        self.open(agent)?;
        let files = self.files(agent)?;
        let is_full = match (files.segments.back(), &files.open) {
            (Some(newest), Some(open)) => {
                newest.bytes > 0 && newest.bytes + portion.len() as u64 > file_bytes
                    || at_ms.saturating_sub(open.oldest_ms) > slice_ms
            }
            _ => true,
        };
        if is_full {
            self.begin_file(agent, entries[0].number, at_ms)?;
        }
        let written = self
            .files(agent)?
            .segments
            .back()
            .map_or(0, |newest| newest.bytes);
        let mut count = 1;
        for entry in &entries[1..] {
            let fits = portion.len();
            segments::encode(entry, portion);
            if fits > PORTION || written + portion.len() as u64 > file_bytes {
                portion.truncate(fits);
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    /// Opens the newest file, if there is one.
    fn open(&mut self, agent: &AgentId) -> io::Result<()> {
        self.uses += 1;
        let (uses, folder) = (self.uses, self.folder(agent));
        let files = self.files(agent)?;
        if let Some(open) = &mut files.open {
            open.used = uses;
            return Ok(());
        }
        let Some(newest) = files.segments.back_mut() else {
            return Ok(());
        };
        let path = segments::path(&folder, newest.first);
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody else removed it.
                let bytes = newest.bytes;
                files.segments.pop_back();
                self.bytes -= bytes;
                return self.open(agent);
            }
            Err(error) => return Err(error),
        };
        let mended = mend(&file)?;
        let grown = mended - newest.bytes.min(mended);
        let shrunk = newest.bytes - newest.bytes.min(mended);
        newest.bytes = mended;
        files.open = Some(Open {
            oldest_ms: oldest_of(&file, agent),
            file,
            used: uses,
        });
        self.bytes = self.bytes + grown - shrunk;
        self.close_one_too_many();
        Ok(())
    }

    fn begin_file(&mut self, agent: &AgentId, first: u64, at_ms: u64) -> io::Result<()> {
        let (folder, uses) = (self.folder(agent), self.uses);
        segments::private_folder(&folder)?;
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(segments::path(&folder, first))?;
        let most = self.settings.files;
        let files = self.files(agent)?;
        files.segments.push_back(Segment {
            first,
            bytes: 0,
            newest_ms: at_ms,
        });
        files.open = Some(Open {
            file,
            oldest_ms: at_ms,
            used: uses,
        });
        while self.files(agent)?.segments.len() > most {
            self.remove_oldest(agent)?;
        }
        self.close_one_too_many();
        Ok(())
    }

    fn append(&mut self, agent: &AgentId, portion: &[u8], at_ms: u64) -> io::Result<()> {
        let files = self.files(agent)?;
        let (Some(newest), Some(open)) = (files.segments.back_mut(), &mut files.open) else {
            return Err(io::Error::other("the file of the log is not open"));
        };
        if let Err(error) = open.file.write_all(portion) {
            // No half of a line stays, or the next one would be lost with it. If that fails too, opening it mends it.
            let _mended_later = open.file.set_len(newest.bytes);
            files.open = None;
            return Err(error);
        }
        newest.bytes += portion.len() as u64;
        newest.newest_ms = newest.newest_ms.max(at_ms);
        self.bytes += portion.len() as u64;
        Ok(())
    }

    /// Removes the oldest files of all agents, except the one that `writes` writes to, while they have too much together.
    fn prune_all(&mut self, writes: Option<&AgentId>) -> io::Result<()> {
        while self.bytes > self.settings.total_bytes {
            let agents = self.agents.iter().flatten();
            let oldest = agents
                .filter(|(agent, files)| writes != Some(*agent) || files.segments.len() > 1)
                .filter_map(|(agent, files)| Some((files.segments.front()?.newest_ms, agent)))
                .min();
            let Some((_, agent)) = oldest else {
                break;
            };
            let agent = agent.clone();
            self.remove_oldest(&agent)?;
        }
        Ok(())
    }

    fn remove_oldest(&mut self, agent: &AgentId) -> io::Result<()> {
        let folder = self.folder(agent);
        let files = self.files(agent)?;
        let Some(oldest) = files.segments.front() else {
            return Ok(());
        };
        gone(std::fs::remove_file(segments::path(&folder, oldest.first)))?;
        let bytes = oldest.bytes;
        files.segments.pop_front();
        if files.segments.is_empty() {
            files.open = None;
        }
        self.bytes -= bytes;
        Ok(())
    }

    fn close_one_too_many(&mut self) {
        let agents = self.agents.iter_mut().flatten();
        let open: Vec<(u64, &mut Files)> = agents
            .filter_map(|(_, files)| Some((files.open.as_ref()?.used, files)))
            .collect();
        if open.len() > MOST_OPEN
            && let Some((_, files)) = open.into_iter().min_by_key(|(used, _)| *used)
        {
            files.open = None;
        }
    }

    fn files(&mut self, agent: &AgentId) -> io::Result<&mut Files> {
        Ok(self.known()?.entry(agent.clone()).or_default())
    }

    /// What is there; looked at once.
    fn known(&mut self) -> io::Result<&mut BTreeMap<AgentId, Files>> {
        if self.agents.is_none() {
            segments::private_folder(&self.root)?;
            let mut agents = BTreeMap::new();
            for agent in segments::agents(&self.root)? {
                let files = Files::found(&self.folder(&agent))?;
                agents.insert(agent, files);
            }
            self.bytes = agents.values().map(Files::bytes).sum();
            self.agents = Some(agents);
        }
        Ok(self.agents.get_or_insert_default())
    }

    fn folder(&self, agent: &AgentId) -> PathBuf {
        self.root.join(agent.as_str())
    }
}

impl Files {
    fn found(folder: &Path) -> io::Result<Self> {
        let mut files = Self::default();
        for first in segments::firsts(folder)? {
            let metadata = std::fs::metadata(segments::path(folder, first))?;
            files.segments.push_back(Segment {
                first,
                bytes: metadata.len(),
                newest_ms: milliseconds(metadata.modified()?),
            });
        }
        Ok(files)
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// Ends a last line that was torn when an earlier life broke off; the length of the file.
fn mend(mut file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last == [b'\n'] {
        return Ok(length);
    }
    file.write_all(b"\n")?;
    Ok(length + 1)
}

/// When the first line was written; long ago if that cannot be read, so that the next line begins another file.
fn oldest_of(file: &File, agent: &AgentId) -> u64 {
    let mut line = vec![];
    let mut reader = BufReader::new(FromStart { file, at: 0 }).take(LONGEST_LINE);
    match reader.read_until(b'\n', &mut line) {
        Ok(_) => segments::decode(agent, line.trim_ascii_end()).map_or(0, |entry| entry.line.at_ms),
        Err(_) => 0,
    }
}

/// Reads without moving where the file is appended to.
struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl io::Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
