//! Chores of this repository, run as `cargo xtask CHORE`.

mod bench;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of this repository")]
enum Chore {
    Bench(bench::Bench),
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Bench(bench) => bench.run(),
    }
}
