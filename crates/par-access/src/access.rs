//! The one decision: who calls, and whether that caller may do what it asks for.

use std::sync::Arc;

use par_model::{AgentId, CallError, Role, Scope};

use crate::action::Action;
use crate::caller::{Caller, Standing};
use crate::credentials::Malformed;
use crate::jwt::{BadJwt, Issuer};
use crate::keys::Keys;
use crate::rules::{AgentsMay, Policy, Rules};
use crate::token::{BadToken, Tokens, has_our_form};
use crate::verified::Verified;

/// All that decisions need to know, of one moment. Clones share it.
#[derive(Clone, Default)]
pub struct Access {
    pub policy: Arc<Policy>,
    pub issuer: Option<Arc<Issuer>>,
    pub tokens: Arc<Tokens>,
    pub keys: Arc<Keys>,
    pub rules: Arc<Rules>,
}

/// Why it is not known who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// Nobody says so, and somebody has to.
    Silent,
    Malformed(Malformed),
    /// No token, one that was revoked, or one with a wrong secret: who does not have it need not know which.
    BadToken,
    ExpiredToken,
    Jwt(BadJwt),
    /// A JWT, and no issuer is configured.
    NoIssuer,
}

impl Unidentified {
    /// For the audit log.
    pub fn reason(&self) -> String {
        match self {
            Self::Silent => "no credential".to_owned(),
            Self::Malformed(error) => error.to_string(),
            Self::BadToken => "no such token".to_owned(),
            Self::ExpiredToken => "the token has expired".to_owned(),
            Self::Jwt(error) => error.to_string(),
            Self::NoIssuer => "not a token, and no issuer is configured".to_owned(),
        }
    }

    /// For the caller.
    pub fn words(&self) -> String {
        match self {
            Self::Silent => "a token is needed here: send `Authorization: Bearer TOKEN`; `par token create` makes one".to_owned(),
            Self::BadToken => "the token is not valid: it is wrong, or was revoked".to_owned(),
            Self::NoIssuer => "the token is not valid: it is none that this supervisor has made".to_owned(),
            Self::Malformed(_) | Self::ExpiredToken | Self::Jwt(_) => self.reason(),
        }
    }

    pub fn to_error(&self) -> CallError {
        CallError::Unauthenticated(self.words())
    }
}

/// The rule that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Whole, for the audit log.
    pub reason: String,
    /// What the caller is told.
    pub shown: Shown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    Forbidden(String),
    /// As if there were no such agent: who may not list agents cannot find out by calling them.
    UnknownAgent(String),
}

impl Denial {
    fn open(reason: String) -> Self {
        Self {
            shown: Shown::Forbidden(reason.clone()),
            reason,
        }
    }

    /// `agent`: a name of which the caller knows whether there is such an agent only from us.
    fn hidden(reason: String, agent: &str) -> Self {
        Self {
            shown: Shown::UnknownAgent(agent.to_owned()),
            reason,
        }
    }

    pub fn to_error(&self) -> CallError {
        match &self.shown {
            Shown::Forbidden(words) => CallError::Forbidden(words.clone()),
            Shown::UnknownAgent(agent) => CallError::UnknownAgent(agent.clone()),
        }
    }
}

impl Access {
    /// Everything is allowed to everybody: for a gateway that only this machine reaches, before anything is configured.
    pub fn open() -> Self {
        Self {
            policy: Arc::new(Policy::default().with_anonymous(true)),
            ..Self::default()
        }
    }

    /// Who calls from outside, by the words that are for us. Wrong ones never pass for none.
    pub fn identify(
        &self,
        credential: &str,
        verified: &mut Verified,
        now_ms: u64,
    ) -> Result<Arc<Caller>, Unidentified> {
        if !has_our_form(credential) {
            return self.vouched(credential, verified, now_ms);
        }
        let found = self.tokens.find(credential, now_ms);
        found.map_err(|bad| match bad {
            BadToken::NotValid => Unidentified::BadToken,
            BadToken::Expired => Unidentified::ExpiredToken,
        })
    }

    fn vouched(
        &self,
        jwt: &str,
        verified: &mut Verified,
        now_ms: u64,
    ) -> Result<Arc<Caller>, Unidentified> {
        let issuer = self.issuer.as_ref().ok_or(Unidentified::NoIssuer)?;
        if let Some(caller) = verified.get(jwt, self.keys.generation, now_ms) {
            return Ok(caller);
        }
        let vouched = issuer
            .verify(jwt, &self.keys, now_ms)
            .map_err(Unidentified::Jwt)?;
        let standing = self.policy.widened(vouched.standing);
        let caller = Arc::new(Caller::Subject(vouched.subject, standing));
        verified.keep(jwt, &caller, vouched.until_ms, now_ms);
        Ok(caller)
    }

    /// Who calls from outside and says nothing: whom the certificate names, if it is one that has been given roles.
    pub fn identify_silent(&self, certificate: Option<&str>) -> Result<Arc<Caller>, Unidentified> {
        let known = certificate.and_then(|name| self.policy.certified(name));
        match known {
            Some(caller) => Ok(Arc::clone(caller)),
            None if self.policy.anonymous => Ok(Arc::clone(self.policy.local())),
            None => Err(Unidentified::Silent),
        }
    }

    pub fn decide(&self, caller: &Caller, action: Action<'_>) -> Result<(), Denial> {
        match caller {
            Caller::Local => Ok(()),
            Caller::Token(_, standing)
            | Caller::Subject(_, standing)
            | Caller::Certificate(_, standing) => self.decide_for(caller, standing, action),
            Caller::Agent(agent) => self.decide_for_agent(agent, action),
        }
    }

    fn decide_for(
        &self,
        caller: &Caller,
        standing: &Standing,
        action: Action<'_>,
    ) -> Result<(), Denial> {
        let deploys = || standing.is_admin() || standing.has(&Scope::Deploy);
        let (allowed, scope) = match action {
            Action::CheckLiveness => return Ok(()),
            Action::Call(agent) => return self.decide_call(caller, standing, agent),
            Action::Read => (standing.may_read(), Scope::Read),
            Action::Deploy => (deploys(), Scope::Deploy),
            Action::Administer => (standing.is_admin(), Scope::Admin),
        };
        match allowed {
            true => Ok(()),
            false => Err(Denial::open(format!(
                "`{caller}` has no scope `{scope}`, which this needs"
            ))),
        }
    }

    fn decide_call(&self, caller: &Caller, standing: &Standing, agent: &str) -> Result<(), Denial> {
        if !standing.may_call(agent) {
            // Says the same whether or not there is such an agent.
            let agent = shown(agent);
            let words = format!("`{caller}` has neither scope `call` nor `call:{agent}`");
            return Err(Denial::open(words));
        }
        let Some(roles) = self.rules.required_roles(agent) else {
            return Ok(());
        };
        if standing.is_admin() || !roles.is_disjoint(&standing.roles) {
            return Ok(());
        }
        let words = format!(
            "agent `{}` requires {}, and `{caller}` does not have it",
            shown(agent),
            one_of(roles)
        );
        match standing.may_read() {
            true => Err(Denial::open(words)),
            false => Err(Denial::hidden(words, agent)),
        }
    }

    /// An agent calls agents, and nothing else.
    fn decide_for_agent(&self, caller: &AgentId, action: Action<'_>) -> Result<(), Denial> {
        let Action::Call(agent) = action else {
            let words =
                format!("agent `{caller}` may call agents, and nothing else of the runtime");
            return Err(Denial::open(words));
        };
        if caller.as_str() == agent {
            return Ok(());
        }
        let shown = shown(agent);
        match self.rules.grants(caller) {
            Some(granted) if granted.iter().any(|one| one.as_str() == agent) => return Ok(()),
            Some(_) => {
                let words =
                    format!("agent `{caller}` may not call `{shown}`: its `calls` do not name it");
                return Err(Denial::open(words));
            }
            None => {}
        }
        if self.policy.agents == AgentsMay::CallNobody {
            let words = format!(
                "agent `{caller}` was granted no calls: deploy it with `calls` that name `{shown}`"
            );
            return Err(Denial::open(words));
        }
        match self.rules.required_roles(agent) {
            None => Ok(()),
            Some(roles) => {
                let words = format!(
                    "agent `{shown}` requires {}: an agent needs it in its `calls`",
                    one_of(roles)
                );
                Err(Denial::hidden(words, agent))
            }
        }
    }
}

fn one_of<'a>(roles: impl IntoIterator<Item = &'a Role>) -> String {
    let names: Vec<String> = roles.into_iter().map(|role| format!("`{role}`")).collect();
    match &names[..] {
        [only] => format!("the role {only}"),
        several => format!("one of the roles {}", several.join(", ")),
    }
}

/// A name as asked, which may be hostile.
fn shown(agent: &str) -> String {
    agent
        .chars()
        .take(80)
        .flat_map(char::escape_debug)
        .collect()
}
