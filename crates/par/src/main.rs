//! Multi-PAR: hosts many AI agents on a machine. This binary reads arguments and opens the right door.

mod bundled;
mod cli;
mod client;
mod command;
mod demo;
mod doors;
mod exit;
mod signals;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::terminal::Terminal;

fn main() -> ExitCode {
    if let Some(ended) = doors::hidden(std::env::args_os()) {
        return ended;
    }
    let cli = Cli::parse();
    let terminal = Terminal::detect(cli.json);
    exit::end(cli.run(terminal), terminal)
}
