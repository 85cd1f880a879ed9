//! Logs of the runtime itself begin and end here, on standard error, one event a line; and so do its figures.

pub mod metrics;

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Prints events from now on: those of `usual` and above, unless `RUST_LOG` says otherwise. Colours only on a
/// terminal, and not when `NO_COLOR` is set.
///
/// Called once, by the binary. A second call changes nothing.
pub fn init(usual: LevelFilter) {
    let filter = EnvFilter::builder()
        .with_default_directive(usual.into())
        .from_env_lossy();
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_target(false)
        // Else it would say on a closed standard error that standard error is closed, and panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .try_init();
    if installed.is_err() {
        tracing::debug!("events are printed already");
    }
}
