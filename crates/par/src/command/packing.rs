//! A package for a command: the file that was named, or one packed from the folder that was named.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use par_package::{Limits, PackError, Packed, pack};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

use crate::exit::{Exit, Problem};
use crate::terminal::Terminal;

pub(crate) struct Package {
    source: PathBuf,
    packed: Option<NamedTempFile>,
}

impl Package {
    pub(crate) async fn of(source: &Path, terminal: Terminal) -> anyhow::Result<Self> {
        let packed = if source.is_dir() {
            let (file, _told_by_the_supervisor) = pack_folder(source, terminal).await?;
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

/// Packs `folder` into a temporary file.
pub(super) async fn pack_folder(
    folder: &Path,
    terminal: Terminal,
) -> anyhow::Result<(NamedTempFile, Packed)> {
    let shown = folder.display();
    let file = NamedTempFile::new().context("failed to create a temporary file")?;
    let source = folder.to_owned();
    let progress = terminal.progress();
    progress.say(format!("packing {shown}"));
    let (file, packed) = progress
        .during(spawn_blocking(move || {
            let packed = pack(&source, file.as_file(), &Limits::default());
            (file, packed)
        }))
        .await?;
    let packed = packed.map_err(|error| {
        let message = format!("`{shown}` cannot be packed");
        Problem::new(exit_of(&error), message).because(error)
    })?;
    Ok((file, packed))
}

fn exit_of(error: &PackError) -> Exit {
    match error {
        PackError::Read { .. } | PackError::Write(_) => Exit::Failed,
        _ => Exit::Refused,
    }
}
