//! Where the code's words go: its streams to ours, its value last; with `--json` all of it into one object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use par_model::RunFailure;
use serde_json::value::{RawValue, to_raw_value};

use super::session::{Asked, Ended, News, Outcome, Session, Step, Stream};
use crate::command::Context;
use crate::exit::{AlreadyTold, Exit, Problem};
use crate::terminal::{Progress, Screen, Terminal, bytes, harmless, indent, spaced};

/// How every PNG begins, in base64.
const PNG: &str = "iVBORw0KGgo";

pub(crate) struct Page {
    terminal: Terminal,
    progress: Progress,
    stdout: Written,
    stderr: Written,
}

/// What has gone to one stream so far.
#[derive(Default)]
struct Written {
    /// The last line has not ended.
    within_a_line: bool,
    /// All of it, if it becomes JSON.
    kept: String,
}

impl Page {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            terminal: context.terminal,
            progress: context.terminal.progress(),
            stdout: Written::default(),
            stderr: Written::default(),
        }
    }

    /// Shows what the code writes until it ends.
    pub(crate) async fn follow(
        &mut self,
        session: &Session<'_>,
        asked: &Asked,
    ) -> anyhow::Result<Ended> {
        let progress = self.progress.clone();
        progress.say(format!("{} runs the code", session.agent()));
        let work = async {
            let mut run = session.execute(asked).await?;
            loop {
                match run.next().await? {
                    News::Output(stream, text) => self.write(stream, &text)?,
                    News::Progress(step) => self.progress.say(said(&step)),
                    News::Ended(ended) => return Ok(ended),
                }
            }
        };
        progress.during(work).await
    }

    /// Shows how the code ended; an error if it failed.
    pub(crate) fn close(mut self, ended: &Ended) -> anyhow::Result<()> {
        if self.terminal.json {
            self.print_json(ended)
        } else if ended.outcome.success {
            self.show(&ended.outcome)
        } else {
            self.show_failure(&ended.outcome)
        }
    }

    /// What comes next on a terminal begins a line.
    pub(crate) fn end_line(&mut self) -> io::Result<()> {
        if !self.progress.is_within_a_line() {
            return Ok(());
        }
        match self.terminal.out.width {
            Some(_) => self.write(Stream::Stdout, "\n"),
            None => self.write(Stream::Stderr, "\n"),
        }
    }

    /// The same for what we add to a pipe.
    fn end_line_of(&mut self, stream: Stream) -> io::Result<()> {
        self.end_line()?;
        let (written, screen) = match stream {
            Stream::Stdout => (&self.stdout, self.terminal.out),
            Stream::Stderr => (&self.stderr, self.terminal.err),
        };
        if written.within_a_line && screen.width.is_none() {
            self.write(stream, "\n")?;
        }
        Ok(())
    }

    fn write(&mut self, stream: Stream, text: &str) -> io::Result<()> {
        let written = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if self.terminal.json {
            written.kept.push_str(text);
            return Ok(());
        }
        written.within_a_line = !text.ends_with('\n');
        match stream {
            Stream::Stdout => self.put(self.terminal.out, &mut io::stdout().lock(), text),
            Stream::Stderr => self.put(self.terminal.err, &mut io::stderr().lock(), text),
        }
    }

    fn put(&self, screen: Screen, to: &mut impl Write, text: &str) -> io::Result<()> {
        if screen.width.is_some() {
            self.progress.give_way(text);
            to.write_all(harmless(text).as_bytes())?;
        } else {
            to.write_all(text.as_bytes())?;
        }
        to.flush()
    }

    fn print_json(&self, ended: &Ended) -> anyhow::Result<()> {
        let mut object: BTreeMap<&str, Cow<'_, RawValue>> = BTreeMap::new();
        for (name, value) in &ended.fields {
            object.insert(name, Cow::Borrowed(value));
        }
        object.insert("stdout", Cow::Owned(to_raw_value(&self.stdout.kept)?));
        object.insert("stderr", Cow::Owned(to_raw_value(&self.stderr.kept)?));
        self.terminal.print_json(&object)?;
        match ended.outcome.success {
            true => Ok(()),
            false => Err(failure(&ended.outcome).into()),
        }
    }

    fn show(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        self.end_line()?;
        self.warn_of_what_is_missing(outcome)?;
        for (name, size) in figures(outcome) {
            let size = bytes(size);
            self.note(&format!("{name}: a picture of {size}; --json holds it"))?;
        }
        if let Some(value) = outcome.value() {
            self.end_line_of(Stream::Stdout)?;
            let shown = match outcome.words_of_value() {
                Some(words) => legible(&words, self.terminal),
                None => shown(value, self.terminal),
            };
            self.terminal.print(&shown)?;
        }
        Ok(())
    }

    fn show_failure(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        self.end_line_of(Stream::Stderr)?;
        self.warn_of_what_is_missing(outcome)?;
        let Some(traceback) = &outcome.traceback else {
            return Err(failure(outcome).into());
        };
        self.note(traceback.trim_end())?;
        if !is_told_by_its_traceback(outcome.failure) {
            return Err(failure(outcome).into());
        }
        if !outcome.changed.is_empty() {
            let names = outcome.changed.join(", ");
            let warning = format!("may have changed nevertheless: {names}");
            self.terminal.warn(&warning);
        }
        Err(AlreadyTold.into())
    }

    fn warn_of_what_is_missing(&mut self, outcome: &Outcome) -> io::Result<()> {
        for (stream, cut) in [
            ("standard output", outcome.stdout_truncated),
            ("standard error", outcome.stderr_truncated),
        ] {
            if cut {
                self.end_line_of(Stream::Stderr)?;
                self.terminal.warn(&format!(
                    "the code wrote more to {stream} than is passed on; the rest is missing"
                ));
            }
        }
        Ok(())
    }

    fn note(&mut self, text: &str) -> io::Result<()> {
        self.end_line_of(Stream::Stderr)?;
        match self.terminal.err.width {
            Some(_) => self.terminal.note(&harmless(text)),
            None => self.terminal.note(text),
        }
        Ok(())
    }
}

/// Whether nothing is left to say; the traceback of code that was ended from outside does not say why.
fn is_told_by_its_traceback(failure: Option<RunFailure>) -> bool {
    use RunFailure::{Compile, Input, Memory, Raised};
    matches!(failure, None | Some(Compile | Raised | Input | Memory))
}

/// A failure in the words of the backend, and what can be done about it.
fn failure(outcome: &Outcome) -> Problem {
    let error = outcome.error.as_deref().unwrap_or("the code failed");
    let problem = Problem::new(Exit::Failed, error);
    match outcome.failure {
        Some(RunFailure::TimedOut) => problem.help("--timeout SECONDS gives the code more"),
        Some(RunFailure::Memory) => problem.help("--tier medium or large gives a new session more"),
        Some(RunFailure::Interpreter) => {
            problem.help("the next code of a session that stays gets an interpreter of its own")
        }
        _ => problem,
    }
}

fn said(step: &Step) -> String {
    match step.value {
        Some(part @ 0.0..=1.0) => format!("{:.0}% {}", part * 100.0, step.message),
        Some(value) => format!("{value} {}", step.message),
        None => step.message.clone(),
    }
}

/// As it came for a program; for a person on one line, or on several if it does not fit.
pub(crate) fn shown(value: &str, terminal: Terminal) -> String {
    let Some(width) = terminal.out.width else {
        return value.to_owned();
    };
    let line = spaced(value);
    let text = if line.chars().count() <= width {
        line
    } else {
        indent(value)
    };
    harmless(&text).into_owned()
}

/// Lines stay lines; nothing else may move the cursor.
fn legible(words: &str, terminal: Terminal) -> String {
    match terminal.out.width {
        Some(_) => harmless(words).into_owned(),
        None => words.to_owned(),
    }
}

/// The pictures that the code has drawn, by name, and their sizes.
fn figures(outcome: &Outcome) -> impl Iterator<Item = (&str, u64)> {
    outcome.results.iter().filter_map(|(name, value)| {
        name.strip_prefix("figure_")?.parse::<u32>().ok()?;
        let value: BTreeMap<String, String> = serde_json::from_str(value.get()).ok()?;
        let picture = value.get("base64").filter(|text| text.starts_with(PNG))?;
        let padding = picture.bytes().rev().take_while(|b| *b == b'=').count();
        let size = (picture.len() / 4 * 3).saturating_sub(padding);
        Some((name.as_str(), size as u64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_as_a_part_a_number_or_words() {
        let step = |value, message: &str| {
            said(&Step {
                value,
                message: message.to_owned(),
            })
        };
        assert_eq!(step(Some(0.5), "half"), "50% half");
        assert_eq!(step(Some(12.0), "files"), "12 files");
        assert_eq!(step(None, "thinking"), "thinking");
    }

    #[test]
    fn a_figure_is_a_picture_under_its_name() {
        let picture = r#"{"base64":"iVBORw0KGgoA"}"#;
        let results = format!(
            r#"{{"figure_1":{picture},"figure_2":{{"base64":"YQ=="}},"plot":{picture},"figure_3":7}}"#
        );
        let json =
            format!(r#"{{"success":true,"results":{results},"error":null,"traceback":null}}"#);
        let outcome: Outcome = serde_json::from_str(&json).expect("an outcome");
        assert_eq!(figures(&outcome).collect::<Vec<_>>(), [("figure_1", 9)]);
    }
}
