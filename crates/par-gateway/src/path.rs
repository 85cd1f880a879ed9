//! Which agent a path asks for, and what of the path is the agent's own.
//!
//! The raw path is split first and the one segment that names the agent is decoded once, so that nothing encoded
//! can move a boundary, and the name that was looked up is the name that was asked for. The rest is never decoded.

use std::borrow::Cow;

const PREFIX: &str = "/agents/";

/// Who answers a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    Agent {
        /// As asked: nothing says that such an agent exists, or that the name is a valid one.
        id: Cow<'a, str>,
        /// The path below the agent, raw: empty, or beginning with `/`.
        rest: &'a str,
    },
    Control,
}

pub(crate) fn split(path: &str) -> Asked<'_> {
    let Some(below) = path.strip_prefix(PREFIX).filter(|below| !below.is_empty()) else {
        return Asked::Control;
    };
    let (segment, rest) = below.split_at(below.find('/').unwrap_or(below.len()));
    Asked::Agent {
        id: decode(segment),
        rest,
    }
}

/// A broken escape stays as it is: it belongs to no valid name.
fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.as_bytes();
    while let [first, tail @ ..] = bytes {
        if let (b'%', Some(byte)) = (first, tail.first_chunk().copied().and_then(from_hex)) {
            decoded.push(byte);
            bytes = &tail[2..];
        } else {
            decoded.push(*first);
            bytes = tail;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn from_hex([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// The target of the forwarded request: what is below the agent, and the query, both as they came.
pub(crate) fn target(rest: &str, query: Option<&str>) -> String {
    let mut target = String::with_capacity(rest.len() + query.map_or(0, str::len) + 2);
    target.push_str(if rest.is_empty() { "/" } else { rest });
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    target
}
