//! The doors to the other crates that run: each is opened here and nowhere else.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use par_model::control::Report;
use par_model::log::LogLine;
use par_supervisor::{Announcement, Settings};
use par_worker::{Alone, AloneError};
use tracing::level_filters::LevelFilter;

use crate::terminal::Terminal;

/// Serves until it is told to end. What it says first tells where it is.
pub(crate) fn supervisor(
    settings: Settings,
    log: LevelFilter,
    terminal: Terminal,
) -> anyhow::Result<()> {
    par_telemetry::init(log);
    let announce = |announcement: &Announcement| {
        let Announcement { url, pid, state } = announcement;
        let said = if terminal.json {
            terminal
                .print(&serde_json::json!({ "url": url, "pid": pid, "state": state }).to_string())
        } else {
            terminal.print(&format!(
                "par serves on {url}\nstate is in {}",
                state.display()
            ))
        };
        if let Err(error) = said {
            tracing::warn!(%error, "failed to say where we are");
        }
    };
    Ok(par_supervisor::run(settings, announce)?)
}

/// Serves one package until its agent ends, or we are told to.
pub(crate) fn worker_alone(
    alone: Alone,
    on_report: impl FnMut(Report) + 'static,
    on_log: impl FnMut(LogLine) + 'static,
) -> Result<(), AloneError> {
    par_worker::run_alone(alone, on_report, on_log)
}

/// The subcommands that only our own processes use. They come before anything is parsed: an agent's process must
/// not pay for that, nor be confused by what looks like a flag.
pub(crate) fn hidden(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    match arguments.nth(1)?.to_str()? {
        "__confine" => {
            let error = par_sandbox::confine();
            Some(end(Err(error), "the agent's process did not start"))
        }
        "__victim" => Some(end(par_sandbox::victim(), "the victim did not wait")),
        "worker" => {
            par_telemetry::init(LevelFilter::WARN);
            Some(end(par_worker::run(), "the worker failed"))
        }
        _ => None,
    }
}

fn end(outcome: io::Result<()>, failure: &str) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    Terminal::detect(false).note(&format!("par: {failure}: {error}"));
    ExitCode::FAILURE
}
