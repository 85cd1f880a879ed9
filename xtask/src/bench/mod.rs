//! `cargo xtask bench`: how fast we are, measured beside others in one run, on the machine at hand.

mod answer;
mod call;
mod calls;
mod connection;
mod deploy;
mod door;
mod execution;
mod extent;
mod findings;
mod goals;
mod grpc;
mod harness;
mod idle;
mod known;
mod lifecycle;
mod load;
mod machine;
mod peers;
mod process;
mod report;
mod restart;
mod size;
mod start;
mod statistics;
mod table;
mod workshop;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};

use extent::Extent;
use findings::Findings;
use table::Style;

/// Measure calls, sessions, deploys, restarts, memory and size, beside nginx, uvicorn + FastAPI and grpc.aio
#[derive(Args)]
pub(crate) struct Bench {
    /// About a minute; shows that everything works, its figures are rough
    #[arg(long)]
    quick: bool,

    /// Only this part
    #[arg(long, value_name = "PART")]
    only: Option<Part>,

    /// A release build of `par` to measure, instead of building one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,

    /// Write everything that was measured to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Print the tables as Markdown
    #[arg(long)]
    markdown: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// How agents come, sleep, wake, crash and change
    Lifecycle,
    /// Calls, sessions, memory and size
    Work,
    /// What the limits of the front door cost
    Door,
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // One thread: the load generator shall not take more of the machine than it has to.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            // Whichever way it ends, what it holds is dropped, and that ends the processes and removes the files.
            tokio::select! {
                ended = self.measure_and_tell() => ended,
                _ = interrupt.recv() => bail!("interrupted"),
                _ = terminate.recv() => bail!("terminated"),
            }
        })
    }

    async fn measure_and_tell(self) -> anyhow::Result<()> {
        let extent = if self.quick {
            Extent::QUICK
        } else {
            Extent::USUAL
        };
        let findings = Findings::gather(self.binary, extent, self.only).await?;
        if let Some(path) = self.json {
            let text = serde_json::to_string_pretty(&findings)?;
            let written = fs::write(&path, text + "\n");
            written.with_context(|| format!("failed to write {}", path.display()))?;
        }
        let style = if self.markdown {
            Style::Markdown
        } else {
            Style::Plain
        };
        let tables = report::tables(&findings);
        let texts: Vec<String> = tables.iter().map(|table| table.render(style)).collect();
        writeln!(io::stdout(), "{}", texts.join("\n"))?;
        Ok(())
    }
}

/// Says on standard error what is being measured.
fn progress(what: &str) -> io::Result<()> {
    writeln!(io::stderr(), "bench: {what}")
}
