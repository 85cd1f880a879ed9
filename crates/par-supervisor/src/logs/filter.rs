//! Which lines are meant.

use std::collections::BTreeSet;

use memchr::memmem::Finder;
use par_model::log::Level;
use par_model::{AgentId, ReplicaId};

use super::Entry;

#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Of these agents; of all when there are none.
    pub(crate) agents: BTreeSet<AgentId>,
    /// Exactly this level.
    pub(crate) level: Option<Level>,
    /// This level, or a graver one.
    pub(crate) at_least: Option<Level>,
    /// Not before this moment, in milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// With this text in it.
    pub(crate) grep: Option<Finder<'static>>,
    pub(crate) call: Option<String>,
    pub(crate) replica: Option<ReplicaId>,
}

impl Filter {
    pub(crate) fn takes(&self, entry: &Entry) -> bool {
        let line = &entry.line;
        self.means(&entry.agent)
            && line.at_ms >= self.since_ms
            && self.level.is_none_or(|level| level == line.level)
            && self.at_least.is_none_or(|level| level <= line.level)
            && self.replica.is_none_or(|_| self.replica == line.replica)
            && self.call.as_ref().is_none_or(|_| self.call == line.call)
            && self
                .grep
                .as_ref()
                .is_none_or(|text| text.find(line.message.as_bytes()).is_some())
    }

    pub(super) fn means(&self, agent: &AgentId) -> bool {
        self.agents.is_empty() || self.agents.contains(agent)
    }
}
