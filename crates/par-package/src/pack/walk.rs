//! Which files of a folder belong into its package.

use std::fs::{self, DirEntry};
use std::path::Path;

use super::PackError;
use crate::Limits;
use crate::entry_path::EntryPath;

/// Folders of tools, wherever they are.
const TOOL_FOLDERS: [&str; 12] = [
    ".git",
    ".hg",
    ".mypy_cache",
    ".nox",
    ".pytest_cache",
    ".ruff_cache",
    ".svn",
    ".tox",
    ".venv",
    "__pycache__",
    "node_modules",
    "venv",
];
/// Left out at the root only: deeper, these are names like any other.
const ROOT_FOLDERS: [&str; 1] = ["target"];
/// Lies in every virtual environment, whatever the environment is called.
const VENV_MARK: &str = "pyvenv.cfg";

pub(super) fn files(folder: &Path, limits: &Limits) -> Result<Vec<EntryPath>, PackError> {
    let mut files: Vec<EntryPath> = vec![];
    let mut waiting = vec![String::new()];
    let too_many = || PackError::TooManyFiles {
        limit: limits.entries,
        depth: limits.depth,
    };
    while let Some(inside) = waiting.pop() {
        let path = folder.join(&inside);
        let unreadable = |source| PackError::Read {
            path: path.clone(),
            source,
        };
        for entry in fs::read_dir(&path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| PackError::NameNotUtf8(entry.path()))?;
            let relative = if inside.is_empty() {
                name.clone()
            } else {
                format!("{inside}/{name}")
            };
            match sort(&entry, &name, &relative)? {
                Sorted::Folder => waiting.push(relative),
                Sorted::File => files.push(relative.parse()?),
                Sorted::LeftOut => {}
            }
            let too_deep = files.last().is_some_and(|path| path.depth() > limits.depth);
            if (files.len() + waiting.len()) as u64 >= limits.entries || too_deep {
                return Err(too_many());
            }
        }
    }
    Ok(files)
}

enum Sorted {
    File,
    Folder,
    LeftOut,
}

fn sort(entry: &DirEntry, name: &str, relative: &str) -> Result<Sorted, PackError> {
    let kind = entry.file_type().map_err(|source| PackError::Read {
        path: entry.path(),
        source,
    })?;
    if is_left_out(name, relative) || (kind.is_dir() && entry.path().join(VENV_MARK).exists()) {
        return Ok(Sorted::LeftOut);
    }
    if kind.is_symlink() {
        return Err(PackError::Link(relative.to_owned()));
    }
    match (kind.is_dir(), kind.is_file()) {
        (true, _) => Ok(Sorted::Folder),
        (_, true) => Ok(Sorted::File),
        _ => Err(PackError::SpecialFile(relative.to_owned())),
    }
}

fn is_left_out(name: &str, relative: &str) -> bool {
    const ENDINGS: [&str; 3] = [".apkg", ".pyc", ".pyo"];
    TOOL_FOLDERS.contains(&name)
        || ROOT_FOLDERS.contains(&relative)
        || name == ".DS_Store"
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
}
