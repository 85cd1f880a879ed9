//! Builds the tree from the parser's events with a stack of its own, so that neither depth nor aliases can exhaust
//! anything: an alias shares the node it repeats, and what all aliases repeat together is bounded.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::{Entry, Node, Position, Value, YamlError};
use crate::Limits;
use crate::problem::shown;

/// Reads the one document of a manifest.
pub(crate) fn parse(text: &str, limits: &Limits) -> Result<Rc<Node>, YamlError> {
    let mut builder = Builder::new(limits);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) =
            event.map_err(|error| YamlError::new(Position::of(*error.marker()), error.info()))?;
        builder.take(event, Position::of(span.start))?;
    }
    builder.root.ok_or_else(|| {
        let start = Position { line: 1, column: 1 };
        YamlError::new(start, "the document is empty")
    })
}

/// A list or mapping that has begun and not ended.
struct Open {
    at: Position,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Rc<Node>>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    places: HashMap<String, Position>,
    /// Values of `<<`: they fill in what the mapping itself does not say.
    merged: Vec<Rc<Node>>,
    key: Option<(String, Position, KeyStyle)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyStyle {
    Plain,
    Quoted,
}

struct Builder<'a> {
    limits: &'a Limits,
    stack: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    repeated: usize,
    documents: usize,
    root: Option<Rc<Node>>,
}

impl<'a> Builder<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            stack: vec![],
            anchors: HashMap::new(),
            repeated: 0,
            documents: 0,
            root: None,
        }
    }

    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), YamlError> {
        match event {
            Event::DocumentStart(_) => self.begin_document(at),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && keeps_plain(tag.as_deref(), at)?;
                let text = text.into_owned();
                let value = if plain {
                    Value::Plain(text)
                } else {
                    Value::Quoted(text)
                };
                self.place(anchor, Node::new(at, value))
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_unknown_tag(tag.as_deref(), at)?;
                self.begin(at, anchor, Content::List(vec![]))
            }
            Event::MappingStart(anchor, tag) => {
                refuse_unknown_tag(tag.as_deref(), at)?;
                self.begin(at, anchor, Content::Map(OpenMap::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.repeat(anchor, at),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin_document(&mut self, at: Position) -> Result<(), YamlError> {
        self.documents += 1;
        if self.documents > 1 {
            return Err(YamlError::new(
                at,
                "a second document begins; only one is allowed",
            ));
        }
        Ok(())
    }

    fn begin(&mut self, at: Position, anchor: usize, content: Content) -> Result<(), YamlError> {
        self.check_depth(1, at)?;
        self.stack.push(Open {
            at,
            anchor,
            content,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let open = self
            .stack
            .pop()
            .expect("the parser ends only what has begun");
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map(map) => Value::Map(map.finish()?),
        };
        self.place(open.anchor, Node::new(open.at, value))
    }

    fn repeat(&mut self, anchor: usize, at: Position) -> Result<(), YamlError> {
        let node = self.anchors.get(&anchor).cloned().ok_or_else(|| {
            YamlError::new(at, "an alias stands inside the value that it repeats")
        })?;
        self.repeated = self.repeated.saturating_add(node.weight);
        if self.repeated > self.limits.alias_bytes {
            let limit = self.limits.alias_bytes;
            return Err(YamlError::new(
                at,
                format!("aliases repeat more than {limit} bytes"),
            ));
        }
        self.check_depth(node.depth, at)?;
        self.hand_over(node, at)
    }

    fn check_depth(&self, more: usize, at: Position) -> Result<(), YamlError> {
        let limit = self.limits.depth;
        if self.stack.len() + more > limit {
            return Err(YamlError::new(
                at,
                format!("nested deeper than {limit} levels"),
            ));
        }
        Ok(())
    }

    fn place(&mut self, anchor: usize, node: Node) -> Result<(), YamlError> {
        let at = node.at;
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.hand_over(node, at)
    }

    fn hand_over(&mut self, node: Rc<Node>, at: Position) -> Result<(), YamlError> {
        match self.stack.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map(map)) => map.take(node, at)?,
        }
        Ok(())
    }
}

impl OpenMap {
    fn take(&mut self, node: Rc<Node>, at: Position) -> Result<(), YamlError> {
        let Some((key, key_at, style)) = self.key.take() else {
            self.key = Some(key_of(&node, at)?);
            return Ok(());
        };
        if key == "<<" && style == KeyStyle::Plain {
            self.merged.push(node);
            return Ok(());
        }
        if let Some(first) = self.places.insert(key.clone(), key_at) {
            let key = shown(&key);
            return Err(YamlError::new(
                key_at,
                format!("`{key}` is already there at {first}"),
            ));
        }
        self.entries.push(Entry {
            at: key_at,
            key,
            value: node,
        });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Entry>, YamlError> {
        for merged in std::mem::take(&mut self.merged) {
            match &merged.value {
                Value::Map(entries) => self.fill_in(entries),
                Value::List(items) => {
                    for item in items {
                        let Value::Map(entries) = &item.value else {
                            return Err(not_mergeable(item));
                        };
                        self.fill_in(entries);
                    }
                }
                _ => return Err(not_mergeable(&merged)),
            }
        }
        Ok(self.entries)
    }

    fn fill_in(&mut self, entries: &[Entry]) {
        for entry in entries {
            if !self.places.contains_key(&entry.key) {
                self.places.insert(entry.key.clone(), entry.at);
                self.entries.push(entry.clone());
            }
        }
    }
}

fn not_mergeable(node: &Node) -> YamlError {
    YamlError::new(
        node.at,
        format!("`<<` takes a mapping, found {}", node.kind()),
    )
}

fn key_of(node: &Node, at: Position) -> Result<(String, Position, KeyStyle), YamlError> {
    match &node.value {
        Value::Plain(text) => Ok((text.clone(), at, KeyStyle::Plain)),
        Value::Quoted(text) => Ok((text.clone(), at, KeyStyle::Quoted)),
        _ => Err(YamlError::new(
            at,
            format!("a key must be text, found {}", node.kind()),
        )),
    }
}

/// Whether a scalar without quotes keeps its YAML meaning: `!!str 1` is text.
fn keeps_plain(tag: Option<&Tag>, at: Position) -> Result<bool, YamlError> {
    refuse_unknown_tag(tag, at)?;
    Ok(tag.is_none_or(|tag| tag.is_yaml_core_schema() && tag.suffix != "str"))
}

fn refuse_unknown_tag(tag: Option<&Tag>, at: Position) -> Result<(), YamlError> {
    const KNOWN: [&str; 7] = ["str", "int", "float", "bool", "null", "seq", "map"];
    let Some(tag) = tag else {
        return Ok(());
    };
    let unspecific = tag.handle.is_empty() && tag.suffix == "!";
    if unspecific || (tag.is_yaml_core_schema() && KNOWN.contains(&tag.suffix.as_str())) {
        return Ok(());
    }
    let written = shown(&tag.suffix);
    Err(YamlError::new(
        at,
        format!("the tag `{written}` is not allowed"),
    ))
}
