//! What people and programs see of a command: results on standard output, everything else on standard error.

mod json;
mod progress;
mod style;
mod table;
mod text;

use std::io::{self, Write as _};

use serde::Serialize;

pub(crate) use json::{indent, spaced};
pub(crate) use progress::Progress;
pub(crate) use style::Style;
pub(crate) use table::{Cell, Column, Row, Table};
pub(crate) use text::{bytes, duration, harmless, shell_word, wrap};

/// Where text goes, and what may be done there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Columns of the terminal; `None` when it is none.
    pub(crate) width: Option<usize>,
    pub(crate) colours: bool,
}

impl Screen {
    fn of(stream: &(impl io::IsTerminal + std::os::fd::AsFd)) -> Self {
        if !stream.is_terminal() {
            return Self {
                width: None,
                colours: false,
            };
        }
        let columns = rustix::termios::tcgetwinsize(stream).map_or(0, |size| size.ws_col);
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            width: Some(if columns == 0 {
                80
            } else {
                usize::from(columns)
            }),
            colours: !no_color && !dumb,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) out: Screen,
    pub(crate) err: Screen,
    /// The user asked for JSON.
    pub(crate) json: bool,
}

impl Terminal {
    pub(crate) fn detect(json: bool) -> Self {
        Self {
            out: Screen::of(&io::stdout()),
            err: Screen::of(&io::stderr()),
            json,
        }
    }

    /// A result, to standard output.
    pub(crate) fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// A result for programs: one line, or readable when a person looks at it.
    pub(crate) fn print_json(&self, value: &impl Serialize) -> io::Result<()> {
        let text = if self.out.width.is_some() {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        self.print(&text?)
    }

    /// Something worth knowing beside the result, to standard error.
    pub(crate) fn note(&self, text: &str) {
        // A line of progress may stand there.
        let clear = if self.err.width.is_some() {
            "\r\x1b[K"
        } else {
            ""
        };
        // Nobody is left to tell when standard error is gone.
        drop(writeln!(io::stderr().lock(), "{clear}{text}"));
    }

    pub(crate) fn warn(&self, text: &str) {
        let word = Style::Warning.paint("warning:", self.err.colours);
        self.note(&format!("{word} {}", harmless(text)));
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress::on(self.err)
    }
}
