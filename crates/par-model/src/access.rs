//! Who may do what: scopes, and the bodies of the API about tokens and about what was decided.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::InvalidId;
use crate::{AgentId, Role, TokenName};

/// A kind of thing that a caller may do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// Everything, tokens and secrets included.
    Admin,
    /// Brings agents up, changes and removes them, and reads.
    Deploy,
    /// Looks at status, logs, events and figures.
    Read,
    /// Calls every agent.
    Call,
    /// Calls one agent.
    CallAgent(AgentId),
}

/// For people and errors: all words that a scope can be.
pub const SCOPES: &str = "admin, deploy, read, call or call:AGENT";

impl FromStr for Scope {
    type Err = InvalidId;

    fn from_str(word: &str) -> Result<Self, InvalidId> {
        let agent = word.strip_prefix("call:").map(AgentId::from_str);
        match (word, agent) {
            ("admin", _) => Ok(Self::Admin),
            ("deploy", _) => Ok(Self::Deploy),
            ("read", _) => Ok(Self::Read),
            ("call", _) => Ok(Self::Call),
            (_, Some(agent)) => agent.map(Self::CallAgent),
            (_, None) => Err(InvalidId {
                what: "scope",
                value: word.to_owned(),
                rule: SCOPES,
            }),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = InvalidId;

    fn try_from(word: String) -> Result<Self, InvalidId> {
        word.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Deploy => f.write_str("deploy"),
            Self::Read => f.write_str("read"),
            Self::Call => f.write_str("call"),
            Self::CallAgent(agent) => write!(f, "call:{agent}"),
        }
    }
}

/// `POST /supervisor/tokens`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenRequest {
    #[schema(value_type = String)]
    pub name: TokenName,
    /// `admin`, `deploy`, `read`, `call` or `call:AGENT`
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub scopes: Vec<Scope>,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<Role>,
    /// For so long it is valid; for ever without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// The one answer that holds the token itself: it is kept nowhere. Has no `Debug`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    pub token: String,
    pub info: TokenInfo,
    /// What is different from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// `GET /supervisor/tokens`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    pub name: String,
    /// The part of the token that is no secret.
    pub id: String,
    pub scopes: Vec<String>,
    pub roles: Vec<String>,
    /// RFC 3339
    pub created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    pub expired: bool,
}

/// What the audit log has of one decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// RFC 3339
    pub at: String,
    /// Such as `token:ci`, `subject:alice`, `certificate:node`, `agent:hello`, `local` or `nobody`.
    pub caller: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `call`, `read`, `deploy` or `admin`
    pub action: String,
    /// An agent as it was asked for, or method and path of the control API.
    pub target: String,
    /// `allow` or `deny`
    pub decision: String,
    /// The rule.
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Entries before this one that came faster than they could be kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_before: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `GET /supervisor/audit`, newest first
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Audit {
    pub entries: Vec<AuditEntry>,
    /// What is not as it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_written_as_they_are_read() {
        for word in ["admin", "deploy", "read", "call", "call:hello"] {
            assert_eq!(word.parse::<Scope>().expect("a scope").to_string(), word);
        }
        for bad in ["", "Admin", "call:", "call:A", "call:a,b", "write", "*"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }
}
