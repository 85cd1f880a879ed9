//! The end of a zip file: how many entries it says it has, learnt before any of them is read.
//!
//! ```text
//! entries … | central directory | [zip64 record | zip64 locator] | end record | comment
//! ```
//!
//! Zip readers disagree about files in which this order is broken. Only the plain order is accepted here, so that
//! there is one way to read a package.

use std::io::{self, Read, Seek, SeekFrom};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndRecord {
    pub(super) entries: u64,
    /// Where the central directory begins, and the entries end.
    pub(super) directory: u64,
}

const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const END_SIZE: usize = 22;
const LONGEST_COMMENT: usize = u16::MAX as usize;
const LOCATOR_SIGNATURE: [u8; 4] = *b"PK\x06\x07";
const LOCATOR_SIZE: u64 = 20;
const RECORD64_SIGNATURE: [u8; 4] = *b"PK\x06\x06";
const RECORD64_SIZE: usize = 56;
/// A central directory's entry without its name.
const SMALLEST_HEADER: u64 = 46;

impl EndRecord {
    /// `None`: this is not a zip file, or not one in the plain order.
    pub(super) fn read(file: &mut (impl Read + Seek)) -> io::Result<Option<Self>> {
        let length = file.seek(SeekFrom::End(0))?;
        let tail_length = length.min((END_SIZE + LONGEST_COMMENT) as u64);
        let tail_start = length - tail_length;
        let tail = read_at(
            file,
            tail_start,
            usize::try_from(tail_length).unwrap_or(usize::MAX),
        )?;
        let Some(at) = find_end(&tail) else {
            return Ok(None);
        };
        let end = &tail[at..at + END_SIZE];
        let end_at = tail_start + at as u64;
        let small = SmallEnd::read(end);
        if !small.on_one_disk {
            return Ok(None);
        }
        let found = if small.may_be_zip64() {
            match read_zip64(file, end_at)? {
                Zip64::Absent => Some((small.plain(), end_at)),
                Zip64::Broken => None,
                Zip64::Present { end, at } => Some((end, at)),
            }
        } else {
            Some((small.plain(), end_at))
        };
        Ok(found.and_then(|(end, directory_end)| end.in_plain_order(directory_end)))
    }
}

/// What either kind of record says.
struct Said {
    entries: u64,
    size: u64,
    directory: u64,
}

impl Said {
    fn in_plain_order(&self, directory_end: u64) -> Option<EndRecord> {
        let ends_here = self.directory.checked_add(self.size) == Some(directory_end);
        let holds_them = self
            .entries
            .checked_mul(SMALLEST_HEADER)
            .is_some_and(|least| least <= self.size);
        (ends_here && holds_them).then_some(EndRecord {
            entries: self.entries,
            directory: self.directory,
        })
    }
}

struct SmallEnd {
    on_one_disk: bool,
    entries: u16,
    size: u32,
    directory: u32,
}

impl SmallEnd {
    fn read(record: &[u8]) -> Self {
        let short = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
        let long = |at: usize| {
            u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
        };
        Self {
            on_one_disk: short(4) == short(6) && short(8) == short(10),
            entries: short(10),
            size: long(12),
            directory: long(16),
        }
    }

    fn may_be_zip64(&self) -> bool {
        self.entries == u16::MAX || self.size == u32::MAX || self.directory == u32::MAX
    }

    fn plain(&self) -> Said {
        Said {
            entries: self.entries.into(),
            size: self.size.into(),
            directory: self.directory.into(),
        }
    }
}

enum Zip64 {
    Absent,
    Broken,
    Present { end: Said, at: u64 },
}

fn read_zip64(file: &mut (impl Read + Seek), end_at: u64) -> io::Result<Zip64> {
    let Some(locator_at) = end_at.checked_sub(LOCATOR_SIZE) else {
        return Ok(Zip64::Absent);
    };
    let locator = read_at(file, locator_at, LOCATOR_SIZE as usize)?;
    if locator[..4] != LOCATOR_SIGNATURE {
        return Ok(Zip64::Absent);
    }
    let at = quad(&locator, 8);
    if at.checked_add(RECORD64_SIZE as u64) != Some(locator_at) {
        return Ok(Zip64::Broken);
    }
    let record = read_at(file, at, RECORD64_SIZE)?;
    // The size that a record says leaves out its first twelve bytes.
    if record[..4] != RECORD64_SIGNATURE || quad(&record, 4) != RECORD64_SIZE as u64 - 12 {
        return Ok(Zip64::Broken);
    }
    let end = Said {
        entries: quad(&record, 32),
        size: quad(&record, 40),
        directory: quad(&record, 48),
    };
    Ok(Zip64::Present { end, at })
}

/// The last end record, if its comment is the end of the file.
fn find_end(tail: &[u8]) -> Option<usize> {
    let at = tail
        .windows(4)
        .rposition(|window| window == END_SIGNATURE)?;
    let record = tail.get(at..at + END_SIZE)?;
    let comment = usize::from(u16::from_le_bytes([record[20], record[21]]));
    (at + END_SIZE + comment == tail.len()).then_some(at)
}

fn quad(bytes: &[u8], at: usize) -> u64 {
    let mut quad = [0; 8];
    quad.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(quad)
}

fn read_at(file: &mut (impl Read + Seek), at: u64, length: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
