//! `par init`: a small agent that runs as it is.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{Context, program};
use crate::bundled::Example;
use crate::exit::{Exit, Problem};
use crate::terminal::shell_word;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par init my-agent                     a folder my-agent with a greeting agent\n  par init my-agent --example stream    one that answers piece by piece"
)]
pub(crate) struct Init {
    /// The folder to write; its name becomes the agent's
    folder: PathBuf,

    /// What to begin with
    #[arg(long, value_enum, default_value = "hello")]
    example: Example,

    /// The agent's name, when it is not the folder's
    #[arg(long)]
    name: Option<String>,
}

impl Init {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<()> {
        let name = self.agent_name()?;
        refuse_what_is_there(&self.folder)?;
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("failed to create `{}`", self.folder.display()))?;
        let files = self
            .example
            .write(&self.folder, &name)
            .with_context(|| format!("failed to write into `{}`", self.folder.display()))?;
        let terminal = context.terminal;
        let folder = self.folder.display().to_string();
        if terminal.json {
            terminal.print_json(
                &serde_json::json!({ "name": name, "folder": folder, "files": files }),
            )?;
            return Ok(());
        }
        let place = shell_word(&folder);
        terminal.print(&format!(
            "{folder}: {}\n\nNext:\n  {} up   (in another terminal, unless it runs)\n  {}\n  {}",
            files.join(", "),
            program(),
            context.par(&format!("deploy {place}")),
            context.par(&self.example.question(&name)),
        ))?;
        Ok(())
    }

    fn agent_name(&self) -> anyhow::Result<String> {
        let from_folder = || {
            let full = std::path::absolute(&self.folder).ok()?;
            Some(full.file_name()?.to_str()?.to_owned())
        };
        let name = self.name.clone().or_else(from_folder).unwrap_or_default();
        let first_is_letter = name.starts_with(|c: char| c.is_ascii_lowercase());
        let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if first_is_letter && name.len() <= 63 && name.bytes().all(rest) {
            return Ok(name);
        }
        let message = format!(
            "`{name}` cannot be an agent's name: a lowercase letter, then lowercase letters, digits or `-`"
        );
        Err(Problem::new(Exit::Usage, message)
            .help("give it another with --name")
            .into())
    }
}

fn refuse_what_is_there(folder: &Path) -> Result<(), Problem> {
    let is_empty = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !folder.exists(),
    };
    if is_empty {
        return Ok(());
    }
    let message = format!(
        "`{}` is there already, and nothing is overwritten",
        folder.display()
    );
    Err(Problem::new(Exit::Failed, message).help("name a folder that is not there yet"))
}
