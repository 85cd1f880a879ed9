//! `par build`: a folder becomes a package.

use std::path::PathBuf;

use clap::Args;

use super::Context;

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
    pub(crate) fn run(self, _context: &Context) -> anyhow::Result<()> {
        anyhow::bail!("packing is not built yet")
    }
}
