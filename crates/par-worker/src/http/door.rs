//! Through which door a request came, and what may be believed of it.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use par_model::headers::{CALLER, HOPS};

/// Where a connection was accepted.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    /// The agent's public port: nothing that a header says about the caller is believed.
    Public { peer: SocketAddr, local: SocketAddr },
    /// The unix socket, which only the supervisor can reach.
    Supervisor { public: SocketAddr },
    /// The unix socket that the agent's own processes were given.
    Agent,
}

impl Door {
    pub(crate) fn is_trusted(&self) -> bool {
        matches!(self, Self::Supervisor { .. })
    }

    pub(crate) fn is_public(&self) -> bool {
        matches!(self, Self::Public { .. })
    }

    pub(crate) fn is_agents_own(&self) -> bool {
        matches!(self, Self::Agent)
    }

    /// Whether another agent is calling, or the agent itself.
    pub(crate) fn caller_is_agent(&self, headers: &HeaderMap) -> bool {
        self.is_agents_own() || self.is_trusted() && headers.contains_key(CALLER)
    }

    /// How many agents called each other before a call: what the supervisor says, and nobody else.
    pub(crate) fn hops(&self, headers: &HeaderMap) -> u32 {
        let said = headers.get(HOPS).filter(|_| self.is_trusted());
        let count = said.and_then(|value| value.to_str().ok()?.parse().ok());
        count.unwrap_or_default()
    }

    /// The client's address; behind the supervisor the last one that it appended.
    pub(crate) fn client(&self, headers: &HeaderMap) -> Option<SocketAddr> {
        match self {
            Self::Public { peer, .. } => Some(*peer),
            Self::Agent => None,
            Self::Supervisor { .. } => {
                let chain = headers
                    .get_all("x-forwarded-for")
                    .iter()
                    .next_back()?
                    .to_str()
                    .ok()?;
                let last: IpAddr = chain.rsplit(',').next()?.trim().parse().ok()?;
                Some(SocketAddr::new(last, 0))
            }
        }
    }

    pub(crate) fn server(&self) -> Option<SocketAddr> {
        match self {
            Self::Public { local, .. } => Some(*local),
            Self::Supervisor { public } => Some(*public),
            Self::Agent => None,
        }
    }
}
