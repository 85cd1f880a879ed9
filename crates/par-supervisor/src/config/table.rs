//! Reads the tables of a TOML file key by key, and notes every mistake with its line and column.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Mistake;

pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// A file's name and text, for places, and what was wrong so far.
pub(super) struct Notes<'a> {
    pub(super) name: String,
    pub(super) text: &'a str,
    pub(super) mistakes: &'a mut Vec<Mistake>,
}

/// A name, what its whole number may be, and what it sets.
pub(super) type Setting<N, S> = (&'static str, RangeInclusive<N>, fn(&mut S, N));

impl Notes<'_> {
    /// Reads a table of whole numbers. What is left out keeps its default.
    pub(super) fn settings<N, S, const COUNT: usize>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        known: &[Setting<N, S>; COUNT],
    ) -> S
    where
        N: std::str::FromStr + PartialOrd + std::fmt::Display,
        S: Default,
    {
        let mut read = S::default();
        for (key, value) in self.table(key, value).into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let Some((_, range, set)) = known.iter().find(|(known, ..)| *known == name) else {
                self.unknown(
                    name,
                    &key.span(),
                    &known.each_ref().map(|(known, ..)| *known),
                );
                continue;
            };
            if let Some(number) = self.whole_within(name, value, range) {
                set(&mut read, number);
            }
        }
        read
    }

    pub(super) fn place(&self, span: &Range<usize>) -> String {
        let before = &self.text[..span.start.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{}:{line}:{column}", self.name)
    }

    pub(super) fn note(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let place = self.place(span);
        self.mistakes.push(Mistake {
            place,
            message: message.into(),
        });
    }

    /// A number with or without a fraction.
    pub(super) fn number(&mut self, key: &str, value: &Value<'_>) -> Option<f64> {
        let text = match value.get_ref() {
            DeValue::Integer(number) => number.as_str().replace('_', ""),
            DeValue::Float(number) => number.as_str().replace('_', ""),
            other => return self.expected(key, "a number", other, value.span()),
        };
        text.parse()
            .ok()
            .or_else(|| self.expected(key, "a number", value.get_ref(), value.span()))
    }

    pub(super) fn whole<T: std::str::FromStr>(
        &mut self,
        key: &str,
        value: &Value<'_>,
    ) -> Option<T> {
        let text = match value.get_ref() {
            DeValue::Integer(number) => number.as_str().replace('_', ""),
            other => return self.expected(key, "a whole number", other, value.span()),
        };
        text.parse()
            .ok()
            .or_else(|| self.expected(key, "a smaller whole number", value.get_ref(), value.span()))
    }

    pub(super) fn whole_within<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        range: &RangeInclusive<T>,
    ) -> Option<T> {
        let number = self.whole(key, value)?;
        if range.contains(&number) {
            return Some(number);
        }
        let (least, most) = (range.start(), range.end());
        let message = format!("`{key}` is {number}: it has to be from {least} to {most}");
        self.note(&value.span(), message);
        None
    }

    pub(super) fn text(&mut self, key: &str, value: &Value<'_>) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            other => self.expected(key, "text", other, value.span()),
        }
    }

    pub(super) fn truth(&mut self, key: &str, value: &Value<'_>) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(truth) => Some(*truth),
            other => self.expected(key, "true or false", other, value.span()),
        }
    }

    pub(super) fn path(&mut self, key: &str, value: &Value<'_>) -> Option<PathBuf> {
        self.text(key, value).map(PathBuf::from)
    }

    pub(super) fn table<'v, 't>(
        &mut self,
        key: &str,
        value: &'v Value<'t>,
    ) -> Option<&'v DeTable<'t>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            other => self.expected(key, "a table", other, value.span()),
        }
    }

    pub(super) fn expected<T>(
        &mut self,
        key: &str,
        wanted: &str,
        found: &DeValue<'_>,
        span: Range<usize>,
    ) -> Option<T> {
        self.note(
            &span,
            format!("`{key}` is {wanted}, not {}", found.type_str()),
        );
        None
    }

    /// A key that nobody knows is a mistake: a typing error would otherwise pass for a setting.
    pub(super) fn unknown(&mut self, key: &str, span: &Range<usize>, known: &[&str]) {
        self.note(
            span,
            format!("`{key}` is not known here; known are {}", known.join(", ")),
        );
    }
}
