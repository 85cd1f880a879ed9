//! How a command ends: exit codes, and one place that tells what went wrong and what to do next.

use std::error::Error as StdError;
use std::process::ExitCode;

use crate::client::ClientError;
use crate::terminal::{Style, Terminal, harmless};

/// What each exit code means; `par --help` and the README say the same.
pub(crate) const TABLE: &str = "\
Exit codes:
  0  done
  1  it failed: the agent raised, crashed or could not start
  2  wrong usage
  3  no supervisor answers
  4  no such agent or export
  5  the package is refused
  6  not now: the agent is not ready, overloaded or too slow; try again
  130  interrupted";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    Unknown = 4,
    Refused = 5,
    NotNow = 6,
    /// As shells say it of a program that Ctrl-C has ended.
    Interrupted = 130,
}

/// A failure that a person can do something about.
#[derive(Debug)]
pub(crate) struct Problem {
    exit: Exit,
    message: String,
    help: Option<String>,
    source: Option<anyhow::Error>,
}

impl Problem {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            help: None,
            source: None,
        }
    }

    /// What to do next.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn because(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Problem {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(AsRef::as_ref)
    }
}

/// A failure whose whole story stands on standard error already.
#[derive(Debug, thiserror::Error)]
#[error("it failed, as told")]
pub(crate) struct AlreadyTold;

/// The end of the program: success in silence, a failure with its whole chain of causes.
pub(crate) fn end(outcome: anyhow::Result<()>, terminal: Terminal) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    if reader_left(&error) {
        return ExitCode::SUCCESS;
    }
    if error.is::<AlreadyTold>() {
        return ExitCode::from(Exit::Failed as u8);
    }
    ExitCode::from(tell(&error, terminal) as u8)
}

/// Says what went wrong, and what to do next.
pub(crate) fn tell(error: &anyhow::Error, terminal: Terminal) -> Exit {
    let (exit, help) = verdict(error);
    if terminal.json {
        let message = chain(error).join(": ");
        let report = serde_json::json!({ "error": message, "help": help, "exit_code": exit as u8 });
        terminal.note(&report.to_string());
    } else {
        terminal.note(&told(error, help.as_deref(), terminal));
    }
    exit
}

fn verdict(error: &anyhow::Error) -> (Exit, Option<String>) {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        return (problem.exit, problem.help.clone());
    }
    match error.downcast_ref::<ClientError>() {
        Some(error) => (error.exit(), error.help()),
        None => (Exit::Failed, None),
    }
}

fn told(error: &anyhow::Error, help: Option<&str>, terminal: Terminal) -> String {
    let colours = terminal.err.colours;
    let mut text = Style::Bad.paint("error:", colours);
    for (depth, cause) in chain(error).iter().enumerate() {
        let join = if depth == 0 { " " } else { "\n  because: " };
        text.push_str(join);
        text.push_str(&harmless(cause).replace('\n', "\n  "));
    }
    if let Some(help) = help {
        let word = Style::Strong.paint("help:", colours);
        text.push_str(&format!("\n  {word} {}", help.replace('\n', "\n        ")));
    }
    text
}

fn chain(error: &anyhow::Error) -> Vec<String> {
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.dedup();
    causes
}

/// `par ps | head -1` is no failure.
fn reader_left(error: &anyhow::Error) -> bool {
    let broken = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::BrokenPipe;
    error.downcast_ref().is_some_and(broken)
}
