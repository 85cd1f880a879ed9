//! `par exec`: Python code in a session of an agent, once or line by line.
//!
//! ```text
//! exec ──code──► session ──events──► page        what comes of it, on the terminal or as JSON
//!  └──terminal─► repl ──► editor (a thread of its own), completeness
//! ```

mod completeness;
mod editor;
mod page;
mod repl;
mod session;

use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use par_model::{SessionId, Tier};

use super::Context;
use crate::exit::{Exit, Problem};
use crate::signals::{Heard, Signals};
use crate::terminal::Terminal;
use page::Page;
pub(crate) use session::{Asked, Session};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
        par exec python -c 'sum(range(10))'     the value of the last expression is printed\n  \
        par exec python script.py               code from a file\n  \
        par exec python < script.py             or from standard input, as with -\n  \
        par exec python                         line by line; Ctrl-D ends\n  \
        par exec python --session s -c 'x = 1'  a session that stays: the next code finds x\n\n\
        Without --session the code runs in a session of its own, which is gone afterwards. Ctrl-C ends the code.")]
pub(crate) struct Exec {
    /// An agent with `capabilities: [code-execution]`
    agent: String,

    /// A file of Python code, or - for standard input
    file: Option<PathBuf>,

    /// The code itself
    #[arg(
        short = 'c',
        value_name = "CODE",
        allow_hyphen_values = true,
        conflicts_with = "file"
    )]
    code: Option<String>,

    /// A session that stays; it begins if there is none of that name
    #[arg(long, value_name = "NAME")]
    session: Option<SessionId>,

    /// End the code after so many seconds [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<f64>,

    /// How much memory and how many processors a session begins with
    #[arg(long, value_enum, default_value = "small")]
    tier: Size,
}

#[derive(Clone, Copy, ValueEnum)]
enum Size {
    Small,
    Medium,
    Large,
}

impl From<Size> for Tier {
    fn from(size: Size) -> Self {
        match size {
            Size::Small => Self::Small,
            Size::Medium => Self::Medium,
            Size::Large => Self::Large,
        }
    }
}

enum Source {
    Code(String),
    /// A person types.
    Lines,
}

impl Exec {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        // Before signals are listened to: Ctrl-C ends a command that waits for its standard input.
        let source = self.source(context.terminal)?;
        let mut signals = Signals::listen()?;
        let session = tokio::select! {
            opened = Session::open(context, self.agent, self.session) => opened?,
            _ = signals.next() => return Err(interrupted().into()),
        };
        let asked = |code| Asked {
            code,
            timeout: self.timeout,
            tier: self.tier.into(),
        };
        let ran = match source {
            Source::Code(code) => once(&session, &asked(code), context, &mut signals).await,
            Source::Lines => repl::run(&session, asked, context, &mut signals).await,
        };
        tokio::select! {
            () = session.close() => {}
            // Who is in a hurry leaves it to the backend. A terminal that goes away may say so twice.
            () = signals.heard(Heard::Interrupt) => {}
        }
        ran
    }

    fn source(&self, terminal: Terminal) -> anyhow::Result<Source> {
        if let Some(code) = &self.code {
            return Ok(Source::Code(code.clone()));
        }
        match &self.file {
            Some(path) if path != Path::new("-") => read_file(path).map(Source::Code),
            None if io::stdin().is_terminal() => match terminal.json {
                true => Err(Problem::new(Exit::Usage, "--json needs code to run")
                    .help("name a FILE, or give the code with -c or on standard input")
                    .into()),
                false => Ok(Source::Lines),
            },
            _ => read_input().map(Source::Code),
        }
    }
}

async fn once(
    session: &Session<'_>,
    asked: &Asked,
    context: &Context,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let mut page = Page::new(context);
    let ended = tokio::select! {
        ended = page.follow(session, asked) => ended?,
        _ = signals.next() => {
            page.end_line()?;
            return Err(interrupted().into());
        }
    };
    page.close(&ended)
}

fn interrupted() -> Problem {
    Problem::new(Exit::Interrupted, "interrupted")
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("failed to read `{shown}`"))?;
    text(bytes, &format!("`{shown}`"))
}

fn read_input() -> anyhow::Result<String> {
    let mut bytes = vec![];
    let read = io::stdin().lock().read_to_end(&mut bytes);
    read.context("failed to read standard input")?;
    text(bytes, "standard input")
}

fn text(bytes: Vec<u8>, place: &str) -> anyhow::Result<String> {
    String::from_utf8(bytes).map_err(|source| {
        Problem::new(Exit::Usage, format!("{place} is not text in UTF-8"))
            .because(source)
            .into()
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .filter(|seconds| seconds.is_finite() && *seconds > 0.0)
        .ok_or_else(|| "a number of seconds above 0".to_owned())
}
