//! Who calls.

use std::collections::BTreeSet;
use std::fmt;

use par_model::{AgentId, Role, Scope, TokenName};

/// As it was found out, never as a request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// Somebody on this machine who does not say who it is, where that is allowed.
    #[default]
    Local,
    Token(TokenName, Standing),
    /// Whom the issuer of identities vouches for.
    Subject(String, Standing),
    /// The name in a client's certificate that was verified.
    Certificate(String, Standing),
    /// An agent, by the channel on which its worker calls.
    Agent(AgentId),
}

/// What a caller has been given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub scopes: BTreeSet<Scope>,
    pub roles: BTreeSet<Role>,
}

impl Standing {
    pub(crate) fn has(&self, scope: &Scope) -> bool {
        self.scopes.contains(scope)
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.has(&Scope::Admin)
    }

    /// May see which agents there are.
    pub(crate) fn may_read(&self) -> bool {
        self.is_admin() || self.has(&Scope::Deploy) || self.has(&Scope::Read)
    }

    pub(crate) fn may_call(&self, agent: &str) -> bool {
        let this =
            |scope: &Scope| matches!(scope, Scope::CallAgent(named) if named.as_str() == agent);
        self.is_admin() || self.has(&Scope::Call) || self.scopes.iter().any(this)
    }
}

/// As the audit log names it.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Token(name, _) => write!(f, "token:{name}"),
            Self::Subject(subject, _) => write!(f, "subject:{subject}"),
            Self::Certificate(name, _) => write!(f, "certificate:{name}"),
            Self::Agent(agent) => write!(f, "agent:{agent}"),
        }
    }
}
