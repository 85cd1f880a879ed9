//! A package for a command: the file that was named, or one packed from the folder that was named.

use std::path::{Path, PathBuf};

use par_package::{Limits, PackError, Packed, pack};

use crate::exit::{Exit, Problem};

pub(crate) struct Package {
    source: PathBuf,
    packed: Option<tempfile::NamedTempFile>,
}

impl Package {
    pub(crate) fn of(source: &Path) -> anyhow::Result<Self> {
        let packed = if source.is_dir() {
            let file = tempfile::NamedTempFile::new()?;
            // The supervisor tells its warnings about the same package.
            pack_folder(source, &file)?;
            Some(file)
        } else if source.exists() {
            None
        } else {
            return Err(not_there(source).into());
        };
        Ok(Self {
            source: source.to_owned(),
            packed,
        })
    }

    /// The file with the package's bytes.
    pub(crate) fn path(&self) -> &Path {
        self.packed
            .as_ref()
            .map_or(self.source.as_path(), |file| file.path())
    }

    /// As it was named.
    pub(crate) fn name(&self) -> String {
        self.source.display().to_string()
    }
}

pub(super) fn not_there(source: &Path) -> Problem {
    let message = format!("there is no `{}`", source.display());
    Problem::new(Exit::Failed, message).help("name an .apkg file, or a folder with an agent.yaml")
}

/// Packs `folder` into a file of its own.
pub(super) fn pack_folder(
    folder: &Path,
    file: &tempfile::NamedTempFile,
) -> Result<Packed, Problem> {
    pack(folder, file.as_file(), &Limits::default()).map_err(|error| {
        let message = format!("`{}` cannot be packed", folder.display());
        Problem::new(exit_of(&error), message).because(error)
    })
}

fn exit_of(error: &PackError) -> Exit {
    match error {
        PackError::Read { .. } | PackError::Write(_) => Exit::Failed,
        _ => Exit::Refused,
    }
}
