//! `par inspect`: what is in a package, and what is wrong with it.

use std::path::PathBuf;

use clap::Args;

use super::Context;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par inspect hello-0.1.0.apkg\n  par inspect ./hello\n\nEnds with 5 when a supervisor would refuse the package."
)]
pub(crate) struct Inspect {
    /// An .apkg file, or a folder with an agent.yaml
    #[arg(value_name = "FILE|FOLDER")]
    source: PathBuf,
}

impl Inspect {
    pub(crate) fn run(self, _context: &Context) -> anyhow::Result<()> {
        anyhow::bail!("packages cannot be read yet")
    }
}
