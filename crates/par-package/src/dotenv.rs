//! `.env`: one `KEY=value` a line. A broken line is skipped with a warning that names it, never its content.

use crate::environment::Variables;
use crate::manifest::is_variable_name;
use crate::papers::DOTENV;
use crate::problem::note;

#[derive(Clone, Debug, Default)]
pub struct Dotenv {
    pub variables: Variables,
    /// Such as `.env:3: skipped: no `=``.
    pub warnings: Vec<String>,
}

/// What a line without a variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum BrokenLine {
    #[error("not UTF-8")]
    NotUtf8,
    #[error("no `=`")]
    NoEquals,
    #[error("what stands before `=` is not a variable's name")]
    Name,
    #[error("a quote is not closed")]
    OpenQuote,
    #[error("something follows the closing quote")]
    AfterQuote,
    #[error("contains a NUL character")]
    Nul,
}

impl Dotenv {
    pub fn parse(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut dotenv = Self::default();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            match parse_line(line) {
                Ok(None) => {}
                Ok(Some((name, value))) => dotenv.variables.insert(name, value),
                Err(broken) => {
                    let line = index + 1;
                    let warning = format!("{DOTENV}:{line}: skipped: {broken}");
                    note(&mut dotenv.warnings, warning);
                }
            }
        }
        dotenv
    }
}

fn parse_line(line: &[u8]) -> Result<Option<(String, String)>, BrokenLine> {
    let line = std::str::from_utf8(line)
        .map_err(|_| BrokenLine::NotUtf8)?
        .trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => line,
    };
    let (name, value) = line.split_once('=').ok_or(BrokenLine::NoEquals)?;
    let name = name.trim_end();
    if !is_variable_name(name) {
        return Err(BrokenLine::Name);
    }
    let value = parse_value(value.trim_start())?;
    if value.contains('\0') {
        return Err(BrokenLine::Nul);
    }
    Ok(Some((name.to_owned(), value)))
}

fn parse_value(text: &str) -> Result<String, BrokenLine> {
    if let Some(quoted) = text.strip_prefix('\'') {
        let (value, rest) = quoted.split_once('\'').ok_or(BrokenLine::OpenQuote)?;
        return only_a_comment(rest).map(|()| value.to_owned());
    }
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = double_quoted(quoted)?;
        return only_a_comment(rest).map(|()| value);
    }
    Ok(without_comment(text).to_owned())
}

/// Unescapes up to the closing quote; returns what follows it.
fn double_quoted(text: &str) -> Result<(String, &str), BrokenLine> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                Some((_, quoted @ ('"' | '\\' | '$'))) => value.push(quoted),
                Some((_, other)) => value.extend(['\\', other]),
                None => return Err(BrokenLine::OpenQuote),
            },
            other => value.push(other),
        }
    }
    Err(BrokenLine::OpenQuote)
}

fn only_a_comment(rest: &str) -> Result<(), BrokenLine> {
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(())
    } else {
        Err(BrokenLine::AfterQuote)
    }
}

/// A `#` begins a comment only after a space: `color=#fff` has none.
fn without_comment(text: &str) -> &str {
    if text.starts_with('#') {
        return "";
    }
    let comment = text.find(" #").into_iter().chain(text.find("\t#")).min();
    text[..comment.unwrap_or(text.len())].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let dotenv = Dotenv::parse(text.as_bytes());
        dotenv
            .variables
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn value(text: &str) -> String {
        let [(_, value)] = &pairs(text)[..] else {
            panic!("not one variable in {text:?}");
        };
        value.clone()
    }

    #[test]
    fn values_are_taken_as_people_write_them() {
        for (line, expected) in [
            ("A=dotenv", "dotenv"),
            (r##"A="a b # c""##, "a b # c"),
            ("A='x=y'", "x=y"),
            ("A=", ""),
            ("A = v ", "v"),
            ("export A=1", "1"),
            ("A=1 # one", "1"),
            ("A=#fff", ""),
            ("A=x#fff", "x#fff"),
            (r#"A="a\nb\"c\\""#, "a\nb\"c\\"),
            (r"A='a\nb'", r"a\nb"),
            ("A=${B}", "${B}"),
            ("\u{feff}A=1\r", "1"),
        ] {
            assert_eq!(value(line), expected, "{line}");
        }
    }

    #[test]
    fn a_broken_line_is_skipped_and_named_without_its_content() {
        let dotenv =
            Dotenv::parse(b"A=1\nBROKEN LINE\n=x\nB='open\nC=\"a\" b\n\xff=1\nD=a\0b\nE=2");
        let names: Vec<_> = dotenv.variables.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["A", "E"]);
        assert_eq!(dotenv.warnings.len(), 6);
        assert_eq!(dotenv.warnings[0], ".env:2: skipped: no `=`");
    }

    #[test]
    fn the_last_of_two_values_wins() {
        assert_eq!(value("A=1\nA=2"), "2");
    }

    proptest! {
        #[test]
        fn single_quotes_keep_everything(text in "[^'\n\0]{0,30}") {
            prop_assert_eq!(value(&format!("A='{text}'")), text);
        }

        #[test]
        fn no_bytes_make_a_name_or_value_that_a_process_could_not_have(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for (name, value) in Dotenv::parse(&bytes).variables.iter() {
                prop_assert!(is_variable_name(name));
                prop_assert!(!value.contains('\0'));
            }
        }
    }
}
