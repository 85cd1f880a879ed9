//! `${VAR}` and `${VAR:-default}` in a value. Plain text otherwise: no shell ever sees it.

use crate::manifest::is_variable_name;

/// The longest value that Linux passes to a process, its name included.
pub(crate) const LONGEST_VALUE: usize = 128 << 10;
/// `${A:-${B:-${C}}}`, and no deeper.
const DEEPEST: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    #[error("expands to more than {LONGEST_VALUE} bytes")]
    TooLong,
    #[error("has defaults nested deeper than {DEEPEST} levels")]
    TooDeep,
}

/// Replaces every reference in `text`; `lookup` answers `None` for a variable that is not set.
///
/// As in shells, a default also stands in for an empty value. A variable that is not set and has no default is
/// empty; its name goes to `missing`. What is no complete reference stays as it is.
pub(crate) fn expand<'a>(
    text: &'a str,
    lookup: &dyn Fn(&str) -> Option<&'a str>,
    missing: &mut Vec<&'a str>,
) -> Result<String, ExpandError> {
    let mut expanded = String::new();
    expand_into(&mut expanded, text, lookup, missing, DEEPEST)?;
    Ok(expanded)
}

fn expand_into<'a>(
    out: &mut String,
    text: &'a str,
    lookup: &dyn Fn(&str) -> Option<&'a str>,
    missing: &mut Vec<&'a str>,
    depth: usize,
) -> Result<(), ExpandError> {
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        push(out, &rest[..start])?;
        let Some(reference) = Reference::read(&rest[start..]) else {
            push(out, "${")?;
            rest = &rest[start + 2..];
            continue;
        };
        rest = &rest[start + reference.length..];
        let value = lookup(reference.name);
        match (value, reference.default) {
            (None | Some(""), Some(default)) => {
                let depth = depth.checked_sub(1).ok_or(ExpandError::TooDeep)?;
                expand_into(out, default, lookup, missing, depth)?;
            }
            (Some(value), _) => push(out, value)?,
            (None, None) => missing.push(reference.name),
        }
    }
    push(out, rest)
}

fn push(out: &mut String, text: &str) -> Result<(), ExpandError> {
    if out.len() + text.len() > LONGEST_VALUE {
        return Err(ExpandError::TooLong);
    }
    out.push_str(text);
    Ok(())
}

struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
    /// Bytes from `$` to `}`.
    length: usize,
}

impl<'a> Reference<'a> {
    /// Reads the reference that `text`, which begins with `${`, begins with.
    fn read(text: &'a str) -> Option<Self> {
        let end = closing_brace(text)?;
        let inside = &text[2..end];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        is_variable_name(name).then_some(Self {
            name,
            default,
            length: end + 1,
        })
    }
}

/// Where the brace of the leading `${` is closed, with complete references inside it skipped.
fn closing_brace(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"${") {
            open += 1;
            at += 2;
            continue;
        }
        if bytes[at] == b'}' {
            open -= 1;
            if open == 0 {
                return Some(at);
            }
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn expanded(text: &str, known: &[(&'static str, &'static str)]) -> Result<String, ExpandError> {
        let known: BTreeMap<&str, &str> = known.iter().copied().collect();
        let lookup = |name: &str| known.get(name).copied();
        // Tests pass literals, but the signature ties the values to the text.
        expand(text, &lookup, &mut vec![])
    }

    #[test]
    fn references_and_defaults_are_replaced() {
        let known = [("A", "1"), ("EMPTY", "")];
        for (text, expected) in [
            ("${A}", "1"),
            ("<${A}${A}>", "<11>"),
            ("${B:-fallback}", "fallback"),
            ("${A:-fallback}", "1"),
            ("${EMPTY:-fallback}", "fallback"),
            ("${EMPTY}", ""),
            ("${B}", ""),
            ("${B:-}", ""),
            ("${B:-${A}}", "1"),
            ("${B:-${C:-x}y}z", "xyz"),
            ("${B:-a:-b}", "a:-b"),
        ] {
            assert_eq!(expanded(text, &known).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_stays_as_it_is() {
        for text in [
            "$A",
            "${",
            "${}",
            "${A",
            "${A B}",
            "$${",
            "}",
            "$(touch x)",
            "`x`",
            "a;b",
        ] {
            assert_eq!(expanded(text, &[("A", "1")]).as_deref(), Ok(text), "{text}");
        }
    }

    #[test]
    fn the_result_is_bounded_in_length_and_depth() {
        let long = "${A}".repeat(LONGEST_VALUE / 2);
        assert_eq!(expanded(&long, &[("A", "xxx")]), Err(ExpandError::TooLong));
        let deep = format!("{}{}", "${B:-".repeat(20), "}".repeat(20));
        assert_eq!(expanded(&deep, &[]), Err(ExpandError::TooDeep));
    }

    proptest! {
        #[test]
        fn text_without_references_is_unchanged(text in "[^$]{0,60}") {
            prop_assert_eq!(expanded(&text, &[("A", "1")]), Ok(text));
        }

        #[test]
        fn values_are_never_expanded_again(prefix in "[a-z ]{0,10}", suffix in "[a-z ]{0,10}") {
            let text = format!("{prefix}${{A}}{suffix}");
            prop_assert_eq!(expanded(&text, &[("A", "${B}"), ("B", "x")]), Ok(format!("{prefix}${{B}}{suffix}")));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[$\\{\\}:\\-AB é]{0,60}") {
            let _either_way_is_fine = expanded(&text, &[("A", "1")]);
        }
    }
}
