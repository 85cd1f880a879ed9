//! What the operator has said about who may do what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use par_model::{AgentId, Role, Scope};

use crate::caller::{Caller, Standing};

/// Holds for the whole life of a supervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whoever does not say who it is may do everything: only where nobody but this machine gets in.
    pub(crate) anonymous: bool,
    pub(crate) agents: AgentsMay,
    /// What a role may do, whoever has it.
    roles: BTreeMap<Role, BTreeSet<Scope>>,
    /// By the name in a client's certificate.
    certified: HashMap<String, Arc<Caller>>,
    /// One for all requests that do not say who asks.
    local: Arc<Caller>,
}

/// Which others an agent may call that was not told which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AgentsMay {
    /// All that require no role.
    #[default]
    CallEachOther,
    CallNobody,
}

impl Policy {
    /// `certificates`: roles by the name in a client's certificate.
    pub fn new(
        agents: AgentsMay,
        roles: BTreeMap<Role, BTreeSet<Scope>>,
        certificates: &BTreeMap<String, BTreeSet<Role>>,
    ) -> Self {
        let mut policy = Self {
            agents,
            roles,
            ..Self::default()
        };
        let certified = |(name, roles): (&String, &BTreeSet<Role>)| {
            let standing = policy.widened(Standing {
                roles: roles.clone(),
                ..Standing::default()
            });
            let caller = Caller::Certificate(name.clone(), standing);
            (name.clone(), Arc::new(caller))
        };
        policy.certified = certificates.iter().map(certified).collect();
        policy
    }

    #[must_use]
    pub fn with_anonymous(self, anonymous: bool) -> Self {
        Self { anonymous, ..self }
    }

    pub fn is_anonymous(&self) -> bool {
        self.anonymous
    }

    pub(crate) fn certified(&self, name: &str) -> Option<&Arc<Caller>> {
        self.certified.get(name)
    }

    pub(crate) fn local(&self) -> &Arc<Caller> {
        &self.local
    }

    /// A standing with what its roles may do.
    pub fn widened(&self, mut standing: Standing) -> Standing {
        let implied = standing
            .roles
            .iter()
            .filter_map(|role| self.roles.get(role));
        let implied: BTreeSet<Scope> = implied.flatten().cloned().collect();
        standing.scopes.extend(implied);
        standing
    }
}

/// What holds for one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentRules {
    /// Callers have one of them; none are required if this is empty.
    pub roles: BTreeSet<Role>,
    /// The agents that this one may call, if that was said.
    pub calls: Option<BTreeSet<AgentId>>,
}

/// Of all agents that have any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(HashMap<String, AgentRules>);

impl Rules {
    pub fn get(&self, agent: &str) -> Option<&AgentRules> {
        self.0.get(agent)
    }

    pub(crate) fn required_roles(&self, agent: &str) -> Option<&BTreeSet<Role>> {
        let roles = &self.0.get(agent)?.roles;
        (!roles.is_empty()).then_some(roles)
    }

    pub(crate) fn grants(&self, agent: &AgentId) -> Option<&BTreeSet<AgentId>> {
        self.0.get(agent.as_str())?.calls.as_ref()
    }
}

impl FromIterator<(AgentId, AgentRules)> for Rules {
    fn from_iter<I: IntoIterator<Item = (AgentId, AgentRules)>>(rules: I) -> Self {
        let worth = rules
            .into_iter()
            .filter(|(_, rules)| *rules != AgentRules::default());
        Self(
            worth
                .map(|(agent, rules)| (agent.to_string(), rules))
                .collect(),
        )
    }
}
