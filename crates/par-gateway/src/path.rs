//! Which agent a path asks for, and what of the path is the agent's own.
//!
//! The raw path is split first and the one segment that names the agent is decoded once, so that nothing encoded
//! can move a boundary, and the name that was looked up is the name that was asked for. The rest is never decoded.

use std::borrow::Cow;

const PREFIX: &str = "/agents/";

/// Who answers a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    Agent {
        /// As asked: nothing says that such an agent exists, or that the name is a valid one.
        id: Cow<'a, str>,
        /// The path below the agent, raw: empty, or beginning with `/`.
        rest: &'a str,
    },
    Control,
}

pub fn split(path: &str) -> Asked<'_> {
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
pub(crate) fn decode(segment: &str) -> Cow<'_, str> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, thought through by hand: all segments first, each decoded by itself.
    fn dumber(path: &str) -> Option<(String, String)> {
        let mut segments = path.split('/');
        let beginning = (segments.next()?, segments.next()?);
        if beginning != ("", "agents") {
            return None;
        }
        let name = segments.next()?;
        let rest: String = segments.map(|segment| format!("/{segment}")).collect();
        let nothing_below = name.is_empty() && rest.is_empty();
        (!nothing_below).then(|| (decoded_once(name), rest))
    }

    fn decoded_once(segment: &str) -> String {
        let bytes = segment.as_bytes();
        let mut decoded = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let escape = segment.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
            let hex = escape.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            if let Some(hex) = hex {
                decoded.push(u8::from_str_radix(hex, 16).expect("two digits"));
                at += 3;
            } else {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
        String::from_utf8_lossy(&decoded).into_owned()
    }

    fn agent(path: &str) -> Option<(String, String)> {
        match split(path) {
            Asked::Agent { id, rest } => Some((id.into_owned(), rest.to_owned())),
            Asked::Control => None,
        }
    }

    #[test]
    fn an_encoded_slash_moves_no_boundary() {
        let asked = agent("/agents/a%2Fb/c%2Fd");
        assert_eq!(asked, Some(("a/b".to_owned(), "/c%2Fd".to_owned())));
    }

    #[test]
    fn a_name_is_decoded_once() {
        let asked = agent("/agents/%2561");
        assert_eq!(asked, Some(("%61".to_owned(), String::new())));
    }

    #[test]
    fn a_target_is_never_empty() {
        assert_eq!(target("", None), "/");
        assert_eq!(target("", Some("q")), "/?q");
        assert_eq!(target("/x", Some("")), "/x?");
    }

    proptest! {
        #[test]
        fn the_split_agrees_with_the_dumber_one(path in "(/agents)?(/?(a|%61|%|%2|%2[fF]|%25|\\.\\.|agents|ä)?){0,6}") {
            prop_assert_eq!(agent(&path), dumber(&path));
        }

        #[test]
        fn any_text_is_split_like_the_dumber_one_does(path in ".{0,60}") {
            prop_assert_eq!(agent(&path), dumber(&path));
        }

        #[test]
        fn nothing_below_an_agent_is_lost_or_added(id in "[a-z0-9-]{1,20}", rest in "(/[a-z%2F.]{0,5}){0,5}", query in proptest::option::of("[a-z&=/?%]{0,9}")) {
            let path = format!("/agents/{id}{rest}");
            let Asked::Agent { id: asked, rest: below } = split(&path) else {
                return Err(TestCaseError::fail("an agent was asked for"));
            };
            prop_assert_eq!(&asked, &id);
            let target = target(below, query.as_deref());
            let whole = query.map_or_else(|| rest.clone(), |query| format!("{rest}?{query}"));
            let rooted = if rest.is_empty() { format!("/{whole}") } else { whole };
            prop_assert_eq!(target, rooted);
        }
    }
}
