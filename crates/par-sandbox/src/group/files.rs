//! Files of the kernel's in which a control group is read and set.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// The kernel takes a value in one write, and never makes a file.
pub(super) fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(folder.join(file))?;
    file.write_all(value.as_bytes())
}

pub(super) fn read(folder: &Path, file: &str) -> Option<String> {
    fs::read_to_string(folder.join(file)).ok()
}

/// A file that holds one number; `max` is the largest.
pub(super) fn number(folder: &Path, file: &str) -> Option<u64> {
    let text = read(folder, file)?;
    match text.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The number after `key` in a file of such lines.
pub(super) fn keyed(folder: &Path, file: &str, key: &str) -> Option<u64> {
    let text = read(folder, file)?;
    text.lines().find_map(|line| {
        let (name, number) = line.split_once(' ')?;
        (name == key).then(|| number.trim().parse().ok())?
    })
}

/// What stands in the way, in a word or two that an operator can act upon.
pub(super) fn reason(error: &io::Error, what: &str, folder: &Path) -> String {
    let folder = folder.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("no permission to {what} {folder}"),
        io::ErrorKind::ReadOnlyFilesystem => format!("{folder} is read-only"),
        _ => format!("failed to {what} {folder}: {error}"),
    }
}
