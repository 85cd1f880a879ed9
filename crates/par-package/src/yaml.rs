//! YAML as a tree in which every value knows where it was written.

mod builder;

use std::fmt;
use std::rc::Rc;

use saphyr_parser::Marker;
use serde_json::{Number, Value as Json};

pub(crate) use builder::parse;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    fn of(marker: Marker) -> Self {
        Self {
            line: marker.line().max(1),
            column: marker.col() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub(crate) at: Position,
    pub(crate) message: String,
}

impl YamlError {
    fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
    /// Bytes of manifest that this node stands for, aliases spelt out.
    weight: usize,
    /// Lists and mappings inside each other, this one included.
    depth: usize,
}

#[derive(Debug)]
pub(crate) enum Value {
    /// Written without quotes: may be a number, a truth value or nothing.
    Plain(String),
    Quoted(String),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Position,
    pub(crate) key: String,
    pub(crate) value: Rc<Node>,
}

impl Node {
    fn new(at: Position, value: Value) -> Self {
        const OWN_WEIGHT: usize = 8;
        let (weight, depth) = match &value {
            Value::Plain(text) | Value::Quoted(text) => (text.len(), 0),
            Value::List(items) => summed(items.iter().map(|item| (0, item))),
            Value::Map(entries) => {
                summed(entries.iter().map(|entry| (entry.key.len(), &entry.value)))
            }
        };
        Self {
            at,
            value,
            weight: weight.saturating_add(OWN_WEIGHT),
            depth,
        }
    }

    /// The text of a scalar as it was written, so `8080` and `1.10` are text too; `None` for null.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Quoted(text) => Some(text),
            Value::Plain(text) if !is_null(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Plain(text) if is_null(text))
    }

    pub(crate) fn truth(&self) -> Option<bool> {
        match &self.value {
            Value::Plain(text) => truth(text),
            _ => None,
        }
    }

    /// Names the kind of value in an error message.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Plain(text) if is_null(text) => "nothing",
            Value::Plain(_) | Value::Quoted(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::Plain(text) => plain_json(text),
            Value::Quoted(text) => Json::String(text.clone()),
            Value::List(items) => items.iter().map(|item| item.to_json()).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.to_json()))
                .collect(),
        }
    }
}

fn summed<'a>(children: impl Iterator<Item = (usize, &'a Rc<Node>)>) -> (usize, usize) {
    let (mut weight, mut depth) = (0_usize, 0);
    for (extra, child) in children {
        weight = weight.saturating_add(extra).saturating_add(child.weight);
        depth = depth.max(child.depth);
    }
    (weight, depth + 1)
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// As YAML 1.1 has it, which is what the packaging kits read with.
fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn plain_json(text: &str) -> Json {
    if is_null(text) {
        return Json::Null;
    }
    if let Some(truth) = truth(text) {
        return Json::Bool(truth);
    }
    let looks_like_a_number =
        text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    let number = text.parse::<i64>().map(Number::from).ok().or_else(|| {
        let float = text.parse().ok().filter(|_| looks_like_a_number)?;
        Number::from_f64(float)
    });
    number.map_or_else(|| Json::String(text.to_owned()), Json::Number)
}
