//! How loud a line is, by what it says of itself.
//!
//! Programs say it in many ways: as JSON, in brackets, as Python's `logging` does, as `level=warn`. What follows a line and
//! belongs to it, such as a traceback, is as loud as what it belongs to.

use std::borrow::Cow;

use serde_json::Value;

use super::{Level, Stream};

/// Where a line may name its level, in bytes; what comes later is prose.
const BEGINNING: usize = 256;
/// Words of a line that begins with a time, among which its level may be.
const FIRST_WORDS: usize = 2;
const TRACEBACK: &str = "Traceback (most recent call last):";

/// Reads the lines of one stream in their order.
#[derive(Debug)]
pub struct Levels {
    stream: Stream,
    after: After,
}

/// What the lines before may have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    /// A line that named its level: what is indented below it belongs to it.
    Line(Level),
    /// Inside a traceback, before the line that names the exception.
    Traceback(Level),
    /// After that line: another traceback may be linked to it.
    Exception(Level),
}

impl Levels {
    pub fn of(stream: Stream) -> Self {
        Self {
            stream,
            after: After::Nothing,
        }
    }

    /// The level of the next line of the stream.
    pub fn next(&mut self, line: &str) -> Level {
        let line = without_colours(line);
        let (level, after) = self.look(&line);
        self.after = after;
        level
    }

    /// The next line is somebody else's: nothing that went before is continued by it.
    pub fn interrupt(&mut self) {
        self.after = After::Nothing;
    }

    fn look(&self, line: &str) -> (Level, After) {
        let is_indented = line.starts_with([' ', '\t']);
        match self.after {
            After::Traceback(level) if is_indented || line.is_empty() => {
                return (level, self.after);
            }
            After::Traceback(level) if named(line).is_none() => {
                return (level, After::Exception(level));
            }
            After::Exception(level) if line.is_empty() || links_tracebacks(line) => {
                return (level, self.after);
            }
            After::Line(level) | After::Exception(level) if is_indented => {
                return (level, self.after);
            }
            _ => {}
        }
        if line.trim_end() == TRACEBACK || line.starts_with("Exception in thread ") {
            let level = match self.after {
                After::Line(Level::Critical) | After::Exception(Level::Critical) => Level::Critical,
                _ => Level::Error,
            };
            return (level, After::Traceback(level));
        }
        match named(line) {
            Some(level) => (level, After::Line(level)),
            None => (usual(self.stream), After::Nothing),
        }
    }
}

/// What a stream suggests when the line says nothing: standard error is an error, standard output is information.
fn usual(stream: Stream) -> Level {
    match stream {
        Stream::Stderr => Level::Error,
        Stream::Stdout | Stream::Worker => Level::Info,
    }
}

fn links_tracebacks(line: &str) -> bool {
    line.starts_with("During handling of the above exception")
        || line.starts_with("The above exception was the direct cause")
}

/// The level that a line names.
fn named(line: &str) -> Option<Level> {
    if line.starts_with('{')
        && let Some(level) = of_json(line)
    {
        return Some(level);
    }
    let beginning = beginning(line);
    of_first_word(beginning)
        .or_else(|| of_brackets(beginning))
        .or_else(|| of_fields(beginning))
        .or_else(|| after_a_time(beginning))
        .or_else(|| of_assignment(beginning))
        .or_else(|| of_a_letter(beginning))
        .or_else(|| of_python_warning(beginning))
}

/// `{"level":"warning",…}`, with the names that common libraries use. A number is one of pino's, or of Python's `levelno`.
fn of_json(line: &str) -> Option<Level> {
    let Value::Object(fields) = serde_json::from_str(line).ok()? else {
        return None;
    };
    let text = |name: &str| fields.get(name)?.as_str()?.parse().ok();
    let number = |name: &str| fields.get(name)?.as_u64();
    ["level", "levelname", "severity", "lvl", "log.level"]
        .into_iter()
        .find_map(text)
        .or_else(|| number("level").map(|number| of_number(number, 20)))
        .or_else(|| number("levelno").map(|number| of_number(number, 10)))
}

/// Levels are ten apart; `debug` is the lowest that is no trace.
fn of_number(number: u64, debug: u64) -> Level {
    match number.saturating_sub(debug) / 10 {
        0 => Level::Debug,
        1 => Level::Info,
        2 => Level::Warning,
        3 => Level::Error,
        _ => Level::Critical,
    }
}

/// `ERROR:root:…`, `INFO:     …`, `WARNING …`, `error: …`
fn of_first_word(line: &str) -> Option<Level> {
    let end = line.find(|c: char| !c.is_ascii_alphabetic());
    let (word, rest) = line.split_at(end.unwrap_or(line.len()));
    let is_prefix = match rest.chars().next() {
        Some(':') => true,
        None | Some(' ' | '\t' | '|' | '[' | ']' | '(') => is_loud(word),
        Some(_) => false,
    };
    is_prefix.then(|| word.parse().ok())?
}

/// `[2026-01-01 10:00] [WARNING] …`, `[12:00:00] WARNING: …`
fn of_brackets(line: &str) -> Option<Level> {
    let mut rest = line.trim_start();
    for _ in 0..4 {
        let Some((group, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        else {
            break;
        };
        if let Ok(level) = group.trim().parse() {
            return Some(level);
        }
        rest = after.trim_start_matches([' ', '\t', ':', '-']);
    }
    (rest.len() < line.len()).then(|| of_first_word(rest))?
}

/// `2026-01-01 10:00:00,123 - name - WARNING - …`, and the same with bars.
fn of_fields(line: &str) -> Option<Level> {
    let of = |separator: &str| {
        let mut fields = line.split(separator).map(str::trim).peekable();
        for _ in 0..4 {
            let field = fields.next()?;
            // What nothing follows is the text.
            fields.peek()?;
            if is_loud(field)
                && let Ok(level) = field.parse()
            {
                return Some(level);
            }
        }
        None
    };
    of(" - ").or_else(|| of("|"))
}

/// `2026-01-01T10:00:00Z  WARN name: …`, `10:00:00 name WARNING …`
fn after_a_time(line: &str) -> Option<Level> {
    let is_of_a_time = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    line.starts_with(|c: char| c.is_ascii_digit())
        .then_some(())?;
    let words = line.split_ascii_whitespace().skip_while(is_of_a_time);
    words
        .take(FIRST_WORDS)
        .map(|word| word.trim_matches(|c: char| !c.is_ascii_alphabetic()))
        .filter(|word| is_loud(word))
        .find_map(|word| word.parse().ok())
}

/// `… level=warn …`
fn of_assignment(line: &str) -> Option<Level> {
    let words = line.split([' ', '\t', ',', '{']);
    let values = words.filter_map(|word| {
        let (name, value) = word.split_once('=')?;
        ["level", "lvl", "severity"]
            .contains(&name)
            .then_some(value)
    });
    values
        .map(|value| value.trim_matches(['"', '\'', '}']))
        .find_map(|value| value.parse().ok())
}

/// `W0131 10:00:00.000000 …`, as glog and gRPC write.
fn of_a_letter(line: &str) -> Option<Level> {
    let [letter, date @ .., b' '] = line.as_bytes().first_chunk::<6>()? else {
        return None;
    };
    date.iter().all(u8::is_ascii_digit).then_some(())?;
    match letter {
        b'I' => Some(Level::Info),
        b'W' => Some(Level::Warning),
        b'E' => Some(Level::Error),
        b'F' => Some(Level::Critical),
        _ => None,
    }
}

/// `/path/file.py:12: DeprecationWarning: …`, and what the interpreter says when it breaks.
fn of_python_warning(line: &str) -> Option<Level> {
    if line.starts_with("Fatal Python error:") {
        return Some(Level::Critical);
    }
    let (before, _) = line.split_once("Warning: ")?;
    let (place, name) = before.rsplit_once(": ")?;
    let (_, number) = place.rsplit_once(':')?;
    let is_one = name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit());
    is_one.then_some(Level::Warning)
}

fn is_loud(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn beginning(line: &str) -> &str {
    let end = (0..=BEGINNING.min(line.len()))
        .rev()
        .find(|&end| line.is_char_boundary(end));
    &line[..end.unwrap_or_default()]
}

/// A line as it reads on a terminal.
fn without_colours(line: &str) -> Cow<'_, str> {
    if !line.contains('\x1b') {
        return Cow::Borrowed(line);
    }
    let mut pieces = line.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let text = piece.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        plain.push_str(text.get(1..).unwrap_or_default());
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_as_loud_as_it_says() {
        for (line, level) in [
            ("ERROR:root:no", Level::Error),
            ("INFO:     Uvicorn running on http://x", Level::Info),
            ("DEBUG x", Level::Debug),
            ("warning: unused", Level::Warning),
            ("CRITICAL", Level::Critical),
            ("[2026-01-01 10:00] [WARNING] low", Level::Warning),
            (
                "[2026-01-01 10:00:00 +0000] [7] [INFO] Booting",
                Level::Info,
            ),
            ("[info] nginx", Level::Info),
            ("[12:00:00] WARNING: x", Level::Warning),
            (
                "2026-01-01 10:00:00,123 - name - WARNING - text",
                Level::Warning,
            ),
            ("name.of.it - DEBUG - text", Level::Debug),
            (
                "2026-01-01 10:00:00.123 | ERROR    | mod:fn:1 - text",
                Level::Error,
            ),
            ("2026-01-01T10:00:00.1Z  WARN par: x", Level::Warning),
            ("10:00:00 name INFO text", Level::Info),
            (
                "2026-01-01 10:00:00,123 WARNING [name] text",
                Level::Warning,
            ),
            (r#"{"level":"warning","message":"x"}"#, Level::Warning),
            (r#"{"levelname":"ERROR","msg":"x"}"#, Level::Error),
            (r#"{"severity":"notice"}"#, Level::Info),
            (r#"{"level":10,"msg":"pino"}"#, Level::Debug),
            (r#"{"level":30,"msg":"pino"}"#, Level::Info),
            (r#"{"level":40,"msg":"pino"}"#, Level::Warning),
            (r#"{"level":60,"msg":"pino"}"#, Level::Critical),
            (r#"{"levelno":40,"msg":"python"}"#, Level::Error),
            ("ts=1 level=warn msg=x", Level::Warning),
            (r#"time="x" level="error" msg="no""#, Level::Error),
            ("W0131 10:00:00.000000 1 file.cc:1] x", Level::Warning),
            ("/a/b.py:12: DeprecationWarning: old", Level::Warning),
            ("Fatal Python error: Segmentation fault", Level::Critical),
            ("\x1b[33mWARNING\x1b[0m: coloured", Level::Warning),
        ] {
            for stream in [Stream::Stdout, Stream::Stderr] {
                assert_eq!(Levels::of(stream).next(line), level, "{line}");
            }
        }
    }

    #[test]
    fn prose_is_as_loud_as_its_stream() {
        for line in [
            "",
            "plain",
            "an Error in prose",
            "the call said ERROR",
            "Got HTTP ERROR 404",
            "{not json} ERROR",
            "informative: it is",
            r#"{"level":"loud"}"#,
            "x=1 levels=warn",
            "note - this is no ERROR",
            "2026 was a year without an ERROR",
        ] {
            assert_eq!(Levels::of(Stream::Stdout).next(line), Level::Info, "{line}");
            assert_eq!(
                Levels::of(Stream::Stderr).next(line),
                Level::Error,
                "{line}"
            );
        }
    }

    #[test]
    fn what_follows_a_line_and_belongs_to_it_is_as_loud() {
        let told = "INFO:root:begins\n  indented\nplain\nERROR:root:failed\nTraceback (most recent call last):\n  \
            File \"x\"\n    1 / 0\nZeroDivisionError: division by zero\n\nDuring handling of the above exception, another \
            exception occurred:\n\nTraceback (most recent call last):\n  File \"y\"\nValueError\nplain again\n\
            /a.py:1: UserWarning: old\n  warnings.warn()";
        let mut levels = Levels::of(Stream::Stdout);
        let seen: Vec<Level> = told.split('\n').map(|line| levels.next(line)).collect();
        let expected = [
            vec![Level::Info; 3],
            vec![Level::Error; 11],
            vec![Level::Info],
            vec![Level::Warning; 2],
        ];
        assert_eq!(seen, expected.concat());
    }

    #[test]
    fn what_another_call_writes_continues_nothing() {
        let mut levels = Levels::of(Stream::Stdout);
        levels.next("ERROR:root:mine");
        levels.interrupt();
        assert_eq!(levels.next("  theirs"), Level::Info);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(lines in prop::collection::vec("(\\PC|[\x1b\\[\\]{}:|= -]){0,40}", 0..8)) {
            let mut levels = Levels::of(Stream::Stderr);
            for line in lines {
                levels.next(&line);
            }
        }
    }
}
