//! A package for a command: the file that was named, or one packed from the folder that was named.

use std::path::{Path, PathBuf};

use crate::exit::{Exit, Problem};

pub(crate) struct Package {
    source: PathBuf,
    packed: Option<tempfile::NamedTempFile>,
}

impl Package {
    pub(crate) fn of(source: &Path) -> anyhow::Result<Self> {
        let packed = if source.is_dir() {
            let mut file = tempfile::NamedTempFile::new()?;
            pack(source, file.as_file_mut())?;
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

fn pack(_folder: &Path, _file: &mut std::fs::File) -> anyhow::Result<()> {
    anyhow::bail!("packing is not built yet")
}
