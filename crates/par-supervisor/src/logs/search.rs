//! Finds the newest lines that are meant, in memory first and then, only as far as it has to, in the files. Blocks.
//!
//! Each agent is a source whose lines come newest first; the sources are merged by the numbers of their lines.

use std::collections::BinaryHeap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec;

use par_model::AgentId;
use tracing::debug;

use super::segments::{self, Backward};
use super::{Entry, Filter};

/// What one search reads of files at most.
const MOST_BYTES: u64 = 256 << 20;
const LONGEST: Duration = Duration::from_secs(10);
/// What a search hands out at most, in bytes of messages.
const MOST_FOUND: usize = 32 << 20;
/// Lines are written in the order of time, but for clocks that are set.
const CLOCK_SLACK_MS: u64 = 60_000;

/// Where the lines of one agent are.
pub(super) struct Source {
    pub(super) agent: AgentId,
    /// Those in memory that are meant, newest first.
    pub(super) memory: vec::IntoIter<Arc<Entry>>,
    /// Lines up to this number are only in files.
    pub(super) floor: u64,
}

pub(crate) struct Found {
    /// Newest first.
    pub(crate) entries: Vec<Arc<Entry>>,
    /// Lines up to here were considered.
    pub(super) position: u64,
    /// Why there may be more that are meant, and not older ones than were asked for.
    pub(crate) incomplete: Option<String>,
}

pub(super) struct Search<'a> {
    pub(super) filter: &'a Filter,
    /// Only lines with a higher number.
    pub(super) after: u64,
    pub(super) limit: usize,
    /// None when nothing is kept on disk.
    pub(super) root: Option<&'a Path>,
    /// Called before the first file is opened: what memory has given up must have reached it.
    pub(super) sync: &'a dyn Fn(),
}

/// The next line of a source, or how new it can be at most.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    number: u64,
    source: usize,
    /// Not read from a file yet.
    is_unread: bool,
}

impl Search<'_> {
    pub(super) fn run(&self, sources: Vec<Source>, position: u64) -> Found {
        let mut budget = Budget::new();
        let mut readers: Vec<Reader<'_>> = sources
            .into_iter()
            .map(|source| Reader::of(source, self))
            .collect();
        let mut heads: BinaryHeap<Head> = BinaryHeap::new();
        for (place, reader) in readers.iter_mut().enumerate() {
            heads.extend(reader.head(place));
        }
        let (mut entries, mut bytes) = (vec![], 0);
        while entries.len() < self.limit && bytes < MOST_FOUND {
            let Some(head) = heads.pop().filter(|head| head.number > self.after) else {
                break;
            };
            let reader = &mut readers[head.source];
            if head.is_unread {
                budget.begin(self.sync);
                reader.read(&mut budget);
            } else if let Some(entry) = reader.next.take() {
                bytes += entry.line.message.len();
                entries.push(entry);
            }
            heads.extend(reader.head(head.source));
        }
        if bytes >= MOST_FOUND {
            budget.note(format!("only the newest {} MB are shown", MOST_FOUND >> 20));
        }
        Found {
            entries,
            position,
            incomplete: budget.exceeded,
        }
    }
}

/// What a search may still read.
struct Budget {
    began: Option<Instant>,
    bytes: u64,
    exceeded: Option<String>,
}

impl Budget {
    fn new() -> Self {
        Self {
            began: None,
            bytes: MOST_BYTES,
            exceeded: None,
        }
    }

    fn begin(&mut self, sync: &dyn Fn()) {
        if self.began.is_none() {
            sync();
            self.began = Some(Instant::now());
        }
    }

    /// Whether so many bytes more may be read.
    fn spend(&mut self, bytes: u64) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.bytes == 0 || self.began.is_some_and(|began| began.elapsed() > LONGEST) {
            self.note(
                "older lines were not looked at: name an agent, or a time with `since`".to_owned(),
            );
        }
        self.exceeded.is_none()
    }

    fn note(&mut self, reason: String) {
        self.exceeded.get_or_insert(reason);
    }
}

struct Reader<'a> {
    search: &'a Search<'a>,
    agent: AgentId,
    memory: vec::IntoIter<Arc<Entry>>,
    floor: u64,
    files: Files,
    next: Option<Arc<Entry>>,
}

enum Files {
    /// Not looked at yet.
    Unread,
    /// The numbers of files that were not read, newest last, and the one that is read.
    Reading {
        firsts: Vec<u64>,
        current: Option<Backward>,
    },
    Over,
}

impl<'a> Reader<'a> {
    fn of(source: Source, search: &'a Search<'a>) -> Self {
        Self {
            search,
            agent: source.agent,
            memory: source.memory,
            floor: source.floor,
            files: match search.root {
                Some(_) => Files::Unread,
                None => Files::Over,
            },
            next: None,
        }
    }

    fn head(&mut self, source: usize) -> Option<Head> {
        if self.next.is_none() {
            self.next = self.memory.next();
        }
        let (number, is_unread) = match (&self.next, &self.files) {
            (Some(next), _) => (next.number, false),
            (None, Files::Over) => return None,
            (None, _) => (self.floor, true),
        };
        Some(Head {
            number,
            source,
            is_unread,
        })
    }

    /// Looks for the next line that is meant.
    fn read(&mut self, budget: &mut Budget) {
        match self.look(budget) {
            Ok(Some(entry)) => {
                self.floor = entry.number - 1;
                self.next = Some(Arc::new(entry));
            }
            Ok(None) => self.files = Files::Over,
            Err(error) => {
                debug!(agent = %self.agent, %error, "failed to read a log");
                budget.note(format!("failed to read the log of {}: {error}", self.agent));
                self.files = Files::Over;
            }
        }
    }

    fn look(&mut self, budget: &mut Budget) -> io::Result<Option<Entry>> {
        while budget.spend(0) {
            let Some(line) = self.line(budget)? else {
                return Ok(None);
            };
            let Some(entry) = segments::decode(&self.agent, &line) else {
                continue;
            };
            let is_older =
                entry.line.at_ms.saturating_add(CLOCK_SLACK_MS) < self.search.filter.since_ms;
            if entry.number <= self.search.after || is_older {
                return Ok(None);
            }
            if entry.number <= self.floor && self.search.filter.takes(&entry) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The line before, from whichever file it is in.
    fn line(&mut self, budget: &mut Budget) -> io::Result<Option<Vec<u8>>> {
        if matches!(self.files, Files::Unread) {
            let folder = self.folder();
            self.files = Files::Reading {
                firsts: folder.map_or(Ok(vec![]), |folder| segments::firsts(&folder))?,
                current: None,
            };
        }
        let folder = self.folder().unwrap_or_default();
        let Files::Reading { firsts, current } = &mut self.files else {
            return Ok(None);
        };
        loop {
            if let Some(file) = current {
                let before = file.bytes_read;
                let line = file.next()?;
                if !budget.spend(file.bytes_read - before) {
                    return Ok(None);
                }
                if line.is_some() {
                    return Ok(line);
                }
            }
            let Some(first) = firsts.pop() else {
                return Ok(None);
            };
            *current = None;
            if first > self.floor {
                continue;
            }
            *current = match Backward::open(&segments::path(&folder, first)) {
                Ok(file) => Some(file),
                // It became one too many meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
        }
    }

    fn folder(&self) -> Option<PathBuf> {
        let root = self.search.root?;
        Some(root.join(self.agent.as_str()))
    }
}
