//! `par completions`: what the shell needs to complete our words.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Context;
use crate::cli::Cli;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par completions bash > ~/.local/share/bash-completion/completions/par\n  par completions fish > ~/.config/fish/completions/par.fish\n  par completions zsh > ~/.zfunc/_par"
)]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<()> {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut Cli::command(), "par", &mut script);
        let script = String::from_utf8(script)?;
        context.terminal.print(script.trim_end())?;
        Ok(())
    }
}
