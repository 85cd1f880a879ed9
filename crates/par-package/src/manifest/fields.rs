//! Takes the fields of a mapping one by one, and notes every one that has the wrong type.

use std::collections::BTreeMap;
use std::rc::Rc;

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::problem::{Problem, note};
use crate::yaml::{Entry, Node, Position, Value};

/// Names the manifest itself in a message.
pub(crate) const WHOLE: &str = "the manifest";

/// A value and the place where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Written<T> {
    pub(crate) value: T,
    pub(crate) at: Position,
    /// Such as `rest.entry`.
    pub(crate) field: String,
}

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    problems: Vec<(Position, Problem)>,
}

impl Findings {
    pub(crate) fn add(&mut self, at: Position, field: &str, message: impl std::fmt::Display) {
        let place = format!("{}:{at}", crate::papers::MANIFEST);
        let problem = Problem::new(place, format!("{field}: {message}"));
        note(&mut self.problems, (at, problem));
    }

    pub(crate) fn mention(&self, field: &str) -> bool {
        let beginning = format!("{field}: ");
        self.problems
            .iter()
            .any(|(_, problem)| problem.message.starts_with(&beginning))
    }

    /// In the order of the file.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|(at, _)| (at.line, at.column));
        self.problems
            .into_iter()
            .map(|(_, problem)| problem)
            .collect()
    }
}

pub(crate) struct Fields {
    prefix: String,
    entries: IndexMap<String, Entry>,
}

impl Fields {
    pub(crate) fn of(node: &Node, prefix: &str, findings: &mut Findings) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => Some(Self {
                prefix: prefix.to_owned(),
                entries: entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.clone()))
                    .collect(),
            }),
            _ => {
                let field = if prefix.is_empty() { WHOLE } else { prefix };
                findings.add(
                    node.at,
                    field,
                    format!("expected a mapping, found {}", node.kind()),
                );
                None
            }
        }
    }

    /// The node of a field that says something.
    pub(crate) fn node(&mut self, name: &str) -> Option<Written<Rc<Node>>> {
        let entry = self.entries.shift_remove(name)?;
        let node = entry.value;
        (!node.is_null()).then(|| Written {
            at: node.at,
            field: self.field(name),
            value: node,
        })
    }

    pub(crate) fn text(&mut self, name: &str, findings: &mut Findings) -> Option<Written<String>> {
        let node = self.node(name)?;
        text_of(&node.value, &node.field, findings)
    }

    pub(crate) fn truth(&mut self, name: &str, findings: &mut Findings) -> Option<bool> {
        let node = self.node(name)?;
        let truth = node.value.truth();
        if truth.is_none() {
            let found = format!("expected true or false, found {}", node.value.kind());
            findings.add(node.at, &node.field, found);
        }
        truth
    }

    pub(crate) fn texts(&mut self, name: &str, findings: &mut Findings) -> Vec<Written<String>> {
        self.items(name, findings)
            .iter()
            .filter_map(|item| text_of(&item.value, &item.field, findings))
            .collect()
    }

    /// One text, or a list of them.
    pub(crate) fn words(&mut self, name: &str, findings: &mut Findings) -> Vec<Written<String>> {
        let is_text = self
            .entries
            .get(name)
            .is_some_and(|entry| entry.value.text().is_some());
        match is_text {
            true => self.text(name, findings).into_iter().collect(),
            false => self.texts(name, findings),
        }
    }

    pub(crate) fn items(&mut self, name: &str, findings: &mut Findings) -> Vec<Written<Rc<Node>>> {
        let Some(node) = self.node(name) else {
            return vec![];
        };
        let Value::List(items) = &node.value.value else {
            let found = format!("expected a list, found {}", node.value.kind());
            findings.add(node.at, &node.field, found);
            return vec![];
        };
        let written = |(index, item): (usize, &Rc<Node>)| Written {
            at: item.at,
            field: format!("{}[{index}]", node.field),
            value: Rc::clone(item),
        };
        items.iter().enumerate().map(written).collect()
    }

    /// A mapping of text to text, in the order in which it was written.
    pub(crate) fn text_map(
        &mut self,
        name: &str,
        findings: &mut Findings,
    ) -> Vec<(String, Written<String>)> {
        let Some(fields) = self.section(name, findings) else {
            return vec![];
        };
        let mut map = vec![];
        for (key, entry) in &fields.entries {
            let field = fields.field(&crate::problem::shown(key));
            let value = if entry.value.is_null() {
                Some(Written {
                    value: String::new(),
                    at: entry.at,
                    field,
                })
            } else {
                text_of(&entry.value, &field, findings)
            };
            map.extend(value.map(|value| (key.clone(), value)));
        }
        map
    }

    pub(crate) fn section(&mut self, name: &str, findings: &mut Findings) -> Option<Self> {
        let node = self.node(name)?;
        Self::of(&node.value, &node.field, findings)
    }

    /// Everything that was not taken.
    pub(crate) fn rest(self) -> BTreeMap<String, Json> {
        self.entries
            .into_iter()
            .map(|(key, entry)| (key, entry.value.to_json()))
            .collect()
    }

    fn field(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }
}

fn text_of(node: &Node, field: &str, findings: &mut Findings) -> Option<Written<String>> {
    let Some(text) = node.text() else {
        findings.add(
            node.at,
            field,
            format!("expected text, found {}", node.kind()),
        );
        return None;
    };
    if text.contains('\0') {
        findings.add(node.at, field, "contains a NUL character");
        return None;
    }
    Some(Written {
        value: text.to_owned(),
        at: node.at,
        field: field.to_owned(),
    })
}
