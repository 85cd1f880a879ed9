//! Words of a manifest that are right once they exist.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::problem::shown;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not {rule}", shown(text))]
pub struct InvalidWord {
    text: String,
    rule: &'static str,
}

/// The name of an agent's package: `^[a-z][a-z0-9-]*$`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct AgentName(String);

impl AgentName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = InvalidWord;

    fn from_str(text: &str) -> Result<Self, InvalidWord> {
        const LONGEST: usize = 128;
        let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let begins_well = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
        if begins_well && text.len() <= LONGEST && text.bytes().all(tail) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidWord {
            text: text.to_owned(),
            rule: "a name: a lowercase letter, then lowercase letters, digits or dashes",
        })
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where Python finds something: `module:attribute`, both dotted identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    pub module: String,
    pub attribute: String,
}

impl EntryPoint {
    /// Reads `module.attribute` as well, as the handlers of hand-made exports are written.
    pub fn parse_dotted(text: &str) -> Result<Self, InvalidWord> {
        if text.contains(':') {
            return text.parse();
        }
        match text.rsplit_once('.') {
            Some((module, attribute)) => format!("{module}:{attribute}").parse(),
            None => Err(Self::invalid(text)),
        }
    }

    /// Reads a bare function name as one of `module`.
    pub fn parse_within(text: &str, module: Option<&str>) -> Result<Self, InvalidWord> {
        match module {
            Some(module) if is_dotted_identifier(text) && !text.contains('.') => Ok(Self {
                module: module.to_owned(),
                attribute: text.to_owned(),
            }),
            _ => text.parse(),
        }
    }

    fn invalid(text: &str) -> InvalidWord {
        InvalidWord {
            text: text.to_owned(),
            rule: "`module:function`, such as `src.main:handler`",
        }
    }
}

impl FromStr for EntryPoint {
    type Err = InvalidWord;

    fn from_str(text: &str) -> Result<Self, InvalidWord> {
        match text.split_once(':') {
            Some((module, attribute))
                if is_dotted_identifier(module) && is_dotted_identifier(attribute) =>
            {
                Ok(Self {
                    module: module.to_owned(),
                    attribute: attribute.to_owned(),
                })
            }
            _ => Err(Self::invalid(text)),
        }
    }
}

impl fmt::Display for EntryPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.module, self.attribute)
    }
}

impl Serialize for EntryPoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn is_dotted_identifier(text: &str) -> bool {
    const LONGEST: usize = 512;
    text.len() <= LONGEST && text.split('.').all(is_identifier)
}

fn is_identifier(text: &str) -> bool {
    let mut letters = text.chars();
    let first = letters
        .next()
        .is_some_and(|c| c.is_alphabetic() || c == '_');
    first && letters.all(|c| c.is_alphanumeric() || c == '_')
}

/// The name of an environment variable: what shells and `.env` files agree on, and dots and dashes.
pub fn is_variable_name(text: &str) -> bool {
    let mut letters = text.bytes();
    let first = letters
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && letters.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_point_is_a_module_and_an_attribute() {
        let entry: EntryPoint = "src.main:Agent.run".parse().expect("valid");
        assert_eq!(
            (entry.module.as_str(), entry.attribute.as_str()),
            ("src.main", "Agent.run")
        );
        for bad in [
            "", ":", "main", "a:", ":b", "a:b:c", "../x:y", "a/b:c", "a..b:c", ".a:b", "a b:c",
            "1a:b", "a:b()",
        ] {
            assert!(bad.parse::<EntryPoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_handler_may_be_written_with_dots_only() {
        let entry = EntryPoint::parse_dotted("src.main.add").expect("valid");
        assert_eq!(entry.to_string(), "src.main:add");
        assert!(EntryPoint::parse_dotted("add").is_err());
    }

    #[test]
    fn a_bare_function_belongs_to_the_given_module() {
        let entry = EntryPoint::parse_within("mount", Some("main")).expect("valid");
        assert_eq!(entry.to_string(), "main:mount");
        assert!(EntryPoint::parse_within("mount", None).is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_entry_point_is_written_as_it_was_read(text in ".{0,30}:.{0,30}") {
            if let Ok(entry) = text.parse::<EntryPoint>() {
                prop_assert_eq!(entry.to_string(), text.clone());
                prop_assert!(!text.contains(['/', '\\', ' ', '\0']));
            }
        }

        #[test]
        fn a_name_is_never_a_path(text in ".{0,40}") {
            if text.parse::<AgentName>().is_ok() {
                prop_assert!(!text.contains(['/', '\\', '.', '\0']));
            }
        }
    }
}
