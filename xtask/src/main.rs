//! Chores of this repository, run as `cargo xtask CHORE`.

mod bench;
mod protobuf;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of this repository")]
enum Chore {
    Bench(bench::Bench),
    /// Write the Rust of the protobuf files anew
    Protobuf,
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Bench(bench) => bench.run(),
        Chore::Protobuf => protobuf::generate(),
    }
}
