//! Files of lines: how they are called, what is in them, and how they are read from their end.
//!
//! `<logs>/<agent>/<number of the first line, in hexadecimal>.jsonl`, one JSON object a line.

use std::borrow::Cow;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use memchr::memrchr;
use par_model::log::{Level, LogLine, Stream};
use par_model::{AgentId, ReplicaId};
use serde::{Deserialize, Serialize};

use super::Entry;

const EXTENSION: &str = "jsonl";
/// Bytes that are read at once.
const BLOCK: u64 = 64 << 10;
/// Longer than any line that we write: a message has 96 KiB at most, and a byte may take six.
const LONGEST_LINE: usize = 2 << 20;

#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    n: u64,
    at_ms: u64,
    level: Level,
    stream: Stream,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replica: Option<ReplicaId>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    call: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

pub(super) fn encode(entry: &Entry, into: &mut Vec<u8>) {
    let line = &entry.line;
    let kept = Kept {
        n: entry.number,
        at_ms: line.at_ms,
        level: line.level,
        stream: line.stream,
        replica: line.replica,
        call: line.call.as_deref().map(Cow::Borrowed),
        message: Cow::Borrowed(&line.message),
    };
    serde_json::to_writer(&mut *into, &kept).expect("a line is plain JSON");
    into.push(b'\n');
}

/// None for what was torn, or is none of ours.
pub(super) fn decode(agent: &AgentId, line: &[u8]) -> Option<Entry> {
    let kept: Kept<'_> = serde_json::from_slice(line).ok()?;
    Some(Entry {
        number: kept.n,
        agent: agent.clone(),
        line: LogLine {
            at_ms: kept.at_ms,
            level: kept.level,
            stream: kept.stream,
            replica: kept.replica,
            call: kept.call.map(Cow::into_owned),
            message: kept.message.into_owned(),
        },
    })
}

pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:016x}.{EXTENSION}"))
}

/// The numbers of the first lines of a folder's files, in order; none of a folder that is not there.
pub(super) fn firsts(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let mut firsts = vec![];
    for entry in entries {
        let path = PathBuf::from(entry?.file_name());
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let number = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
        if path
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
            && let Some(number) = number
        {
            firsts.push(number);
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The agents that have a folder.
pub(super) fn agents(root: &Path) -> io::Result<Vec<AgentId>> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let mut agents = vec![];
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let name = entry.file_name();
            agents.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
    }
    Ok(agents)
}

/// The lines of a file, the last one first.
pub(super) struct Backward {
    file: File,
    /// Bytes before those in `buffer`.
    before: u64,
    /// What was read and not yet given out.
    buffer: Vec<u8>,
    /// Bytes at the beginning of `buffer` that were not searched for the end of a line.
    unsearched: usize,
    pub(super) bytes_read: u64,
}

impl Backward {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self {
            before: file.metadata()?.len(),
            file,
            buffer: vec![],
            unsearched: 0,
            bytes_read: 0,
        })
    }

    /// The line before, without its end. The first one is empty when the file is whole.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = memrchr(b'\n', &self.buffer[..self.unsearched]) {
                let line = self.buffer.split_off(at + 1);
                self.buffer.truncate(at);
                self.unsearched = at;
                return Ok(Some(line));
            }
            self.unsearched = 0;
            if self.before == 0 {
                let first = std::mem::take(&mut self.buffer);
                return Ok((!first.is_empty()).then_some(first));
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let size = self.before.min(BLOCK);
        let at = self.before - size;
        let mut block = vec![0; usize::try_from(size).unwrap_or_default()];
        self.file.read_exact_at(&mut block, at)?;
        self.before = at;
        self.bytes_read += size;
        self.unsearched = block.len();
        // What is longer than any line of ours is none: what is left of it will not be understood.
        if self.buffer.len() <= LONGEST_LINE {
            block.append(&mut self.buffer);
        }
        self.buffer = block;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines_of(content: &[u8]) -> Vec<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), content).expect("written");
        let mut lines = Backward::open(file.path()).expect("it is there");
        std::iter::from_fn(|| lines.next().expect("readable")).collect()
    }

    #[test]
    fn lines_longer_than_a_block_are_put_together() {
        let long = vec![b'x'; 3 * 64 * 1024 + 7];
        let content = [b"first\n", &long[..], b"\nlast\n"].concat();
        assert_eq!(lines_of(&content), [&b""[..], b"last", &long, b"first"]);
    }

    #[test]
    fn what_is_longer_than_any_line_takes_no_memory() {
        let endless = vec![b'x'; 8 << 20];
        let seen = lines_of(&[b"first\n", &endless[..]].concat());
        assert_eq!(seen.last().map(Vec::as_slice), Some(&b"first"[..]));
        assert!(seen[0].len() <= LONGEST_LINE + 2 * BLOCK as usize);
    }

    proptest! {
        #[test]
        fn backward_is_forward_turned_round(lines in prop::collection::vec("[a-z]{0,20}", 1..40)) {
            let content = lines.join("\n");
            let mut seen = lines_of(content.as_bytes());
            seen.reverse();
            let mut expected: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
            // An empty first line leaves no trace.
            if expected[0].is_empty() {
                expected.remove(0);
            }
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(line in prop::collection::vec(any::<u8>(), 0..100)) {
            let agent = "a".parse().expect("a valid id");
            let _either_way_is_fine = decode(&agent, &line);
        }
    }
}
