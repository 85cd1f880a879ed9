//! What a worker's proxy is told: where its agent may go, and which secrets are put into its requests on the way; and what it
//! tells.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::network::{Destination, HostPattern};

/// Destinations of one agent.
pub const MOST_GRANTS: usize = 256;
/// Secrets of one agent, and what all their values may have together: a worker is told all of them in one line.
pub const MOST_SECRETS: usize = 64;
pub const LARGEST_SECRETS: usize = 128 << 10;
/// Of one value.
pub const LARGEST_SECRET: usize = 32 << 10;
const LONGEST_NAME: usize = 64;
const LONGEST_TEMPLATE: usize = 1024;

/// Has no `Debug`: it holds secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    #[serde(default)]
    pub granted: Vec<Destination>,
    #[serde(default)]
    pub secrets: Vec<BoundSecret>,
    /// On this machine these are the supervisor's and the workers': no grant leads there. First and last of each range.
    #[serde(default)]
    pub own_ports: Vec<(u16, u16)>,
}

/// A secret that the proxy puts into requests. The agent knows its placeholder. Has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundSecret {
    pub name: SecretName,
    pub value: String,
    pub placeholder: String,
    /// To nobody else it is sent.
    pub hosts: Vec<HostPattern>,
    /// A header that every request to those hosts gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderTemplate>,
}

/// The name of a secret, and of the variable by which the agent finds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret's name is that of a variable: letters, digits and `_`, 64 at most, no digit first"
)]
pub struct InvalidSecretName;

impl SecretName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = InvalidSecretName;

    fn from_str(text: &str) -> Result<Self, InvalidSecretName> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        match starts_well && text.len() <= LONGEST_NAME && text.bytes().all(named) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidSecretName),
        }
    }
}

impl TryFrom<String> for SecretName {
    type Error = InvalidSecretName;

    fn try_from(text: String) -> Result<Self, InvalidSecretName> {
        text.parse()
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Such as `Authorization: Bearer {}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderTemplate {
    /// In lower case.
    name: String,
    before: String,
    after: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    #[error("not NAME: VALUE with one `{{}}` for the secret, such as `Authorization: Bearer {{}}`")]
    Shape,
    #[error("`{0}` is the proxy's own")]
    Ours(&'static str),
}

/// What says where a request ends, and where it goes.
const OURS: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl HeaderTemplate {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn fill(&self, secret: &str) -> String {
        format!("{}{secret}{}", self.before, self.after)
    }
}

impl FromStr for HeaderTemplate {
    type Err = InvalidHeader;

    fn from_str(text: &str) -> Result<Self, InvalidHeader> {
        let (name, value) = text.split_once(':').ok_or(InvalidHeader::Shape)?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let visible = |byte: u8| (0x20..0x7f).contains(&byte);
        let (before, after) = value
            .trim_matches(' ')
            .split_once("{}")
            .ok_or(InvalidHeader::Shape)?;
        let well = text.len() <= LONGEST_TEMPLATE
            && !name.is_empty()
            && name.bytes().all(token)
            && value.bytes().all(visible)
            && !after.contains("{}");
        if !well {
            return Err(InvalidHeader::Shape);
        }
        let name = name.to_ascii_lowercase();
        if let Some(ours) = OURS.into_iter().find(|ours| *ours == name) {
            return Err(InvalidHeader::Ours(ours));
        }
        Ok(Self {
            name,
            before: before.to_owned(),
            after: after.to_owned(),
        })
    }
}

impl TryFrom<String> for HeaderTemplate {
    type Error = InvalidHeader;

    fn try_from(text: String) -> Result<Self, InvalidHeader> {
        text.parse()
    }
}

impl From<HeaderTemplate> for String {
    fn from(template: HeaderTemplate) -> Self {
        template.to_string()
    }
}

impl fmt::Display for HeaderTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{{}}{}", self.name, self.before, self.after)
    }
}

/// Why a value cannot stand in a header; it says nothing of the value.
pub fn check_header_value(value: &str) -> Result<(), &'static str> {
    match value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        true => Ok(()),
        false => Err(
            "has line ends or other characters that no header may have: it can only be given with --as-env",
        ),
    }
}

/// What went through the proxy of a worker, since the worker began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EgressFigures {
    /// Tunnels and requests that were let through.
    pub connections: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// By the rule that refused them.
    pub refused: BTreeMap<String, u64>,
}

impl EgressFigures {
    /// What has come since `before`, which was said by the same worker.
    pub fn since(&self, before: &Self) -> Self {
        let refused = self.refused.iter().map(|(rule, count)| {
            let earlier = before.refused.get(rule).copied().unwrap_or(0);
            (rule.clone(), count.saturating_sub(earlier))
        });
        Self {
            connections: self.connections.saturating_sub(before.connections),
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
            refused: refused.filter(|(_, count)| *count > 0).collect(),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        for (rule, count) in &other.refused {
            *self.refused.entry(rule.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_a_name_and_one_place_for_the_secret() {
        let template: HeaderTemplate = "X-Api-Key:  key={}; v=1 ".parse().expect("a header");
        assert_eq!(template.name(), "x-api-key");
        assert_eq!(template.fill("s"), "key=s; v=1");
        assert_eq!(template.to_string().parse(), Ok(template));
        for text in [
            "Authorization",
            "Authorization: Bearer",
            "A B: {}",
            ": {}",
            "A: {} {}",
            "A: {}\r\nB: c",
        ] {
            assert_eq!(
                text.parse::<HeaderTemplate>(),
                Err(InvalidHeader::Shape),
                "{text:?}"
            );
        }
        for ours in OURS {
            let text = format!("{}: {{}}", ours.to_uppercase());
            assert_eq!(
                text.parse::<HeaderTemplate>(),
                Err(InvalidHeader::Ours(ours))
            );
        }
    }

    #[test]
    fn a_value_with_line_ends_stands_in_no_header() {
        assert!(check_header_value("sk-1234 ~").is_ok());
        for value in ["a\r\nb", "a\nb", "a\tb", "a\u{7f}", "\u{e4}"] {
            assert!(check_header_value(value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn what_came_since_is_what_is_added() {
        let figures = |connections, rule: &str, refused| EgressFigures {
            connections,
            refused: [(rule.to_owned(), refused)].into(),
            ..EgressFigures::default()
        };
        let (before, now) = (figures(1, "not_granted", 2), figures(3, "not_granted", 2));
        let mut all = before.clone();
        all.add(&now.since(&before));
        assert_eq!(all, now);
        assert!(now.since(&before).refused.is_empty(), "nothing new");
    }
}
