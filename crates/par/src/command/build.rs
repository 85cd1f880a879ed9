//! `par build`: a folder becomes a package.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tempfile::NamedTempFile;

use super::Context;
use super::packing::{not_there, pack_folder};
use crate::terminal::{bytes, shell_word};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par build ./hello                    writes hello-0.1.0.apkg\n  par build ./hello -o /tmp/x.apkg"
)]
pub(crate) struct Build {
    /// A folder with an agent.yaml
    folder: PathBuf,

    /// The file to write [default: NAME-VERSION.apkg here]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Build {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        if !self.folder.is_dir() {
            return Err(not_there(&self.folder).into());
        }
        let (file, packed) = pack_folder(&self.folder, context.terminal).await?;
        let output = self
            .output
            .unwrap_or_else(|| format!("{}.apkg", packed.label.replace('@', "-")).into());
        place(&file, &output).with_context(|| format!("failed to write `{}`", output.display()))?;
        for warning in &packed.warnings {
            context.terminal.warn(warning);
        }
        let (terminal, path) = (context.terminal, output.display().to_string());
        if terminal.json {
            terminal.print_json(&serde_json::json!({
                "file": path,
                "package_id": packed.label,
                "entries": packed.entries,
                "bytes": packed.bytes,
                "warnings": packed.warnings,
            }))?;
        } else {
            let (files, size) = (packed.entries, bytes(packed.bytes));
            let deploy = context.par(&format!("deploy {}", shell_word(&path)));
            terminal.print(&format!("{path}: {files} files, {size}\n  try: {deploy}"))?;
        }
        Ok(())
    }
}

/// The whole package appears under its name at once, or not at all.
fn place(packed: &NamedTempFile, output: &Path) -> io::Result<()> {
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut near = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    io::copy(&mut packed.reopen()?, near.as_file_mut())?;
    near.persist(output)?;
    Ok(())
}
