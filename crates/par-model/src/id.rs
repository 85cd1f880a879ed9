//! Ids that cannot be wrong once they exist.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A value that was refused, and the rule it broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{}` is not valid: {rule}", shown(value))]
pub struct InvalidId {
    pub what: &'static str,
    pub value: String,
    pub rule: &'static str,
}

/// At most 80 characters of a hostile value, without control characters.
fn shown(value: &str) -> String {
    value
        .chars()
        .take(80)
        .flat_map(char::escape_debug)
        .collect()
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(value: String) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&value) {
                    Ok(Self(value))
                } else {
                    Err(InvalidId { what: $what, value, rule: $rule })
                }
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::try_from(value.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// The name under which an agent is deployed and called: `^[a-z0-9][a-z0-9_-]{0,62}$`.
    AgentId,
    "agent id",
    "1 to 63 characters: a lowercase letter or digit, then lowercase letters, digits, `_` or `-`",
    |id| {
        let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        id.len() <= 63
            && id.as_bytes().first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && id.bytes().all(tail)
    }
);

text_id!(
    /// The version of a package: `^[0-9A-Za-z.+_-]{1,64}$`, and neither `.` nor `..`.
    Version,
    "version",
    "1 to 64 letters, digits, `.`, `+`, `_` or `-`",
    |version| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".+_-".contains(&b);
        (1..=64).contains(&version.len()) && version != "." && version != ".." && version.bytes().all(allowed)
    }
);

text_id!(
    /// The SHA-256 of a package's bytes: 64 lowercase hexadecimal digits.
    PackageDigest,
    "package digest",
    "64 lowercase hexadecimal digits",
    |digest| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);

text_id!(
    /// The name of an execution session: `^[0-9A-Za-z._:@-]{1,128}$`, and neither `.` nor `..`.
    SessionId,
    "session id",
    "1 to 128 letters, digits, `.`, `_`, `:`, `@` or `-`",
    |id| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:@-".contains(&b);
        (1..=128).contains(&id.len()) && id != "." && id != ".." && id.bytes().all(allowed)
    }
);

text_id!(
    /// What an operator calls a token: `^[a-z0-9][a-z0-9_.-]{0,62}$`.
    TokenName,
    "name of a token",
    "1 to 63 characters: a lowercase letter or digit, then lowercase letters, digits, `_`, `.` or `-`",
    |name| {
        let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
        name.len() <= 63
            && name.as_bytes().first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && name.bytes().all(tail)
    }
);

text_id!(
    /// What callers are, as operators and issuers of identities call it: `^[0-9A-Za-z._:@/-]{1,128}$`.
    Role,
    "role",
    "1 to 128 letters, digits, `.`, `_`, `:`, `@`, `/` or `-`",
    |role| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:@/-".contains(&b);
        (1..=128).contains(&role.len()) && role.bytes().all(allowed)
    }
);

impl PackageDigest {
    pub fn of_sha256(bytes: [u8; 32]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The first twelve digits: enough for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// The name of an agent's process in the control API: `par-<agent>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(AgentId);

impl ProcessId {
    pub fn of(agent: AgentId) -> Self {
        Self(agent)
    }

    /// Reads `par-<agent>`; `known` tells whether the bare word is an agent's own id, which wins.
    pub fn parse(word: &str, known: impl Fn(&AgentId) -> bool) -> Result<Self, InvalidId> {
        let bare = AgentId::from_str(word);
        match (&bare, word.strip_prefix("par-").map(AgentId::from_str)) {
            (_, Some(Ok(agent))) if known(&agent) => Ok(Self(agent)),
            _ => bare.map(Self),
        }
    }

    pub fn agent(&self) -> &AgentId {
        &self.0
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "par-{}", self.0)
    }
}

/// Names one incarnation of an agent. Never reused, so that late news is recognised as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agent_ids_are_short_lowercase_words() {
        for good in ["a", "0", "agent-a", "a_b", &"x".repeat(63)] {
            assert!(AgentId::from_str(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "_a",
            "A",
            "a/b",
            "..",
            "a b",
            "a\0",
            "ä",
            &"x".repeat(64),
        ] {
            assert!(AgentId::from_str(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_version_is_never_a_path() {
        assert!(Version::from_str("0.1.0+build_1-x").is_ok());
        for bad in ["", ".", "..", "1/../../x", &"1".repeat(65)] {
            assert!(Version::from_str(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_session_is_named_by_what_is_safe_in_any_path() {
        for good in ["1", "user@example.com:7", "a.b-c_d", &"x".repeat(128)] {
            assert!(SessionId::from_str(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a\0", "a b", "ä", &"x".repeat(10_000)] {
            assert!(SessionId::from_str(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_process_is_found_by_its_name_or_by_its_agent() {
        let agent = AgentId::from_str("hello").expect("valid");
        let known = |id: &AgentId| *id == agent;
        for word in ["par-hello", "hello"] {
            assert_eq!(
                ProcessId::parse(word, known).expect("valid").agent(),
                &agent
            );
        }
    }

    #[test]
    fn an_agent_whose_own_name_begins_with_par_is_not_mistaken() {
        let agent = AgentId::from_str("par-x").expect("valid");
        let found = ProcessId::parse("par-x", |id| *id == agent).expect("valid");
        assert_eq!(found.agent(), &agent);
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_one_path_segment(text in ".{0,80}") {
            if let Ok(id) = AgentId::from_str(&text) {
                prop_assert!(!id.as_str().contains(['/', '\\', '.', '\0', '%']));
            }
        }
    }
}
