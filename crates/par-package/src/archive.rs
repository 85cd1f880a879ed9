//! The zip file of a package: everything that can be known is checked before a byte of it is unpacked, and what
//! cannot, such as real sizes and checksums, while it is.

mod compare;
mod end_record;
mod error;
mod unpack;

use std::collections::HashMap;
use std::io::{self, Read, Seek};

use zip::read::Config;
use zip::{CompressionMethod, ZipArchive};

use crate::Limits;
use crate::entry_path::EntryPath;
use crate::papers::{MANIFEST, Papers};
use crate::problem::shown;
use end_record::EndRecord;
pub use error::ArchiveError;

/// An archive whose list of entries is in order.
pub struct Archive<R> {
    zip: ZipArchive<R>,
    entries: Vec<Entry>,
    /// Of all files, as they say.
    bytes: u64,
    readable_bytes: u64,
}

#[derive(Debug)]
pub struct Entry {
    pub path: EntryPath,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File { bytes: u64 },
    Folder,
}

impl<R: Read + Seek> Archive<R> {
    /// Checks everything that the archive says about itself.
    pub fn open(mut file: R, packed_bytes: u64, limits: &Limits) -> Result<Self, ArchiveError> {
        let end = EndRecord::read(&mut file)
            .map_err(ArchiveError::Read)?
            .ok_or(ArchiveError::NotAZip)?;
        if end.entries == 0 {
            return Err(ArchiveError::Empty);
        }
        if end.entries > limits.entries {
            return Err(ArchiveError::TooManyEntries {
                entries: end.entries,
                limit: limits.entries,
            });
        }
        let config = Config {
            archive_offset: zip::read::ArchiveOffset::Known(0),
        };
        let mut zip = ZipArchive::with_config(config, file).map_err(ArchiveError::of_zip)?;
        let entries = list(&mut zip, limits)?;
        if entries.len() as u64 != end.entries {
            let reason = format!("{} of {} entries are listed", entries.len(), end.entries);
            return Err(ArchiveError::Damaged(reason));
        }
        check_tree(&entries)?;
        let bytes = check_sizes(&entries, packed_bytes, limits)?;
        check_layout(&mut zip, end)?;
        check_manifest(&entries)?;
        Ok(Self {
            zip,
            entries,
            bytes,
            readable_bytes: limits.manifest_bytes,
        })
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Of all files together, unpacked.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads every file to its end, as unpacking would, and writes nothing.
    pub fn verify(&mut self) -> Result<(), ArchiveError> {
        (0..self.entries.len()).try_for_each(|index| self.copy_entry(index, &mut io::sink()))
    }

    pub(crate) fn papers(&mut self) -> Result<Papers, ArchiveError> {
        Papers::gather(|name| self.read(name))
    }

    /// The content of a small file, `None` when it is not there.
    pub(crate) fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(index) = self
            .entries
            .iter()
            .position(|entry| entry.path.as_str() == name)
        else {
            return Ok(None);
        };
        let Kind::File { bytes } = self.entries[index].kind else {
            return Ok(None);
        };
        let limit = self.readable_bytes;
        if bytes > limit {
            return Err(ArchiveError::FileTooLarge {
                entry: name.to_owned(),
                bytes,
                limit,
            });
        }
        let mut content = vec![];
        self.copy_entry(index, &mut content)?;
        Ok(Some(content))
    }
}

/// Reads the archive's list of entries. It keeps only one of two entries with the same name, so they are counted.
fn list<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    limits: &Limits,
) -> Result<Vec<Entry>, ArchiveError> {
    if zip.has_duplicate_names() {
        return Err(ArchiveError::Duplicate(
            duplicate_name(zip).unwrap_or_default(),
        ));
    }
    (0..zip.len())
        .map(|index| read_entry(zip, index, limits))
        .collect()
}

/// Which name is listed twice: the survivor of two is the only one whose header comes out of order.
fn duplicate_name<R: Read + Seek>(zip: &mut ZipArchive<R>) -> Option<String> {
    let mut last_header = 0;
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index).ok()?;
        if entry.central_header_start() < last_header {
            let before = zip.by_index_data(index - 1).ok()?;
            return Some(shown(&String::from_utf8_lossy(before.name_raw())));
        }
        last_header = entry.central_header_start();
    }
    let last = zip.by_index_data(zip.len().checked_sub(1)?).ok()?;
    Some(shown(&String::from_utf8_lossy(last.name_raw())))
}

fn read_entry<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    index: usize,
    limits: &Limits,
) -> Result<Entry, ArchiveError> {
    let header = zip.by_index_data(index).map_err(ArchiveError::of_zip)?;
    let raw = header.name_raw();
    if raw.len() > limits.path_bytes {
        return Err(ArchiveError::PathTooLong {
            bytes: raw.len(),
            limit: limits.path_bytes,
        });
    }
    let name = std::str::from_utf8(raw)
        .map_err(|_| ArchiveError::NameNotUtf8(shown(&String::from_utf8_lossy(raw))))?;
    let (name, says_folder) = match name.strip_suffix('/') {
        Some(folder) => (folder, true),
        None => (name, false),
    };
    let path: EntryPath = name.parse()?;
    if path.depth() > limits.depth {
        return Err(ArchiveError::TooDeep {
            entry: shown(name),
            limit: limits.depth,
        });
    }
    if header.encrypted() {
        return Err(ArchiveError::Encrypted(shown(name)));
    }
    if !matches!(
        header.compression(),
        CompressionMethod::Stored | CompressionMethod::Deflated
    ) {
        return Err(ArchiveError::UnknownCompression(shown(name)));
    }
    let kind =
        kind_of(header.unix_mode(), says_folder).map_err(|kind| ArchiveError::SpecialFile {
            entry: shown(name),
            kind,
        })?;
    let bytes = header.size();
    match kind {
        Kind::Folder if bytes > 0 => Err(ArchiveError::Dishonest {
            entry: shown(name),
            reason: "a folder with content".to_owned(),
        }),
        Kind::Folder => Ok(Entry { path, kind }),
        Kind::File { .. } => Ok(Entry {
            path,
            kind: Kind::File { bytes },
        }),
    }
}

/// What the mode of an entry says that it is; no mode at all is an ordinary file or folder.
fn kind_of(mode: Option<u32>, says_folder: bool) -> Result<Kind, &'static str> {
    const TYPE: u32 = 0o170_000;
    let plain = if says_folder {
        Kind::Folder
    } else {
        Kind::File { bytes: 0 }
    };
    match mode.unwrap_or(0) & TYPE {
        0 => Ok(plain),
        0o100_000 if !says_folder => Ok(plain),
        0o040_000 if says_folder => Ok(plain),
        0o100_000 | 0o040_000 => Err("a file and a folder at once"),
        0o120_000 => Err("a link"),
        0o020_000 | 0o060_000 => Err("a device"),
        0o010_000 => Err("a pipe"),
        0o140_000 => Err("a socket"),
        _ => Err("of an unknown type"),
    }
}

/// No path twice, and no file where others need a folder.
fn check_tree(entries: &[Entry]) -> Result<(), ArchiveError> {
    let mut kinds: HashMap<&str, Kind> = HashMap::with_capacity(entries.len());
    for entry in entries {
        match kinds.insert(entry.path.as_str(), entry.kind) {
            None => {}
            Some(Kind::Folder) if entry.kind == Kind::Folder => {
                return Err(ArchiveError::Duplicate(shown(entry.path.as_str())));
            }
            Some(Kind::File { .. }) if entry.kind != Kind::Folder => {
                return Err(ArchiveError::Duplicate(shown(entry.path.as_str())));
            }
            Some(_) => return Err(ArchiveError::FileAndFolder(shown(entry.path.as_str()))),
        }
    }
    for entry in entries {
        for parent in entry.path.parents() {
            if matches!(kinds.get(parent), Some(Kind::File { .. })) {
                return Err(ArchiveError::FileAndFolder(shown(parent)));
            }
        }
    }
    Ok(())
}

fn check_sizes(entries: &[Entry], packed_bytes: u64, limits: &Limits) -> Result<u64, ArchiveError> {
    let sizes = entries.iter().map(|entry| match entry.kind {
        Kind::File { bytes } => bytes,
        Kind::Folder => 0,
    });
    let bytes = sizes.fold(0, u64::saturating_add);
    let limit = limits.unpacked_allowance(packed_bytes);
    if bytes > limit {
        return Err(ArchiveError::TooLarge { bytes, limit });
    }
    Ok(bytes)
}

/// Local headers agree with the list, and no two entries share a byte.
fn check_layout<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    end: EndRecord,
) -> Result<(), ArchiveError> {
    /// What a local header, its extra fields and a trailing descriptor may take beside the content.
    const ROOM_FOR_HEADERS: u64 = 4 << 10;
    let mut accounted = ROOM_FOR_HEADERS;
    for index in 0..zip.len() {
        let header = zip.by_index_data(index).map_err(ArchiveError::of_zip)?;
        accounted = accounted
            .saturating_add(header.compressed_size())
            .saturating_add(ROOM_FOR_HEADERS);
    }
    if end.directory > accounted {
        return Err(ArchiveError::Damaged(
            "much of it belongs to no entry".to_owned(),
        ));
    }
    zip.validate_header_consistency()
        .map_err(ArchiveError::of_zip)
}

fn check_manifest(entries: &[Entry]) -> Result<(), ArchiveError> {
    let paths = || entries.iter().map(|entry| entry.path.as_str());
    if paths().any(|path| path == MANIFEST) {
        return Ok(());
    }
    if let Some(found) = paths().find(|path| path.eq_ignore_ascii_case(MANIFEST)) {
        return Err(ArchiveError::ManifestMisspelt {
            found: found.to_owned(),
        });
    }
    let in_folder = paths().find_map(|path| path.strip_suffix(MANIFEST)?.strip_suffix('/'));
    Err(in_folder.map_or(ArchiveError::NoManifest, |folder| {
        ArchiveError::ManifestInFolder {
            folder: shown(folder),
        }
    }))
}
