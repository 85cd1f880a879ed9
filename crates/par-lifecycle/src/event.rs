//! What happened to incarnations, and what is to be done with them.

use std::time::Duration;

use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId};

use crate::Release;

/// News from the world. News of an incarnation that is over changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its worker process exists.
    Spawned { replica: ReplicaId, pid: u32 },
    /// Its dependencies are there; its code begins to load.
    Prepared(ReplicaId),
    /// It answers.
    Ready(ReplicaId),
    /// Its last call has been answered.
    Drained(ReplicaId),
    /// It is gone, nothing of it holds a port any more, and this is why. Also the answer to a
    /// [`Action::Spawn`] that came to nothing: [`EndCause::PortTaken`] makes the fleet choose another port.
    Exited(ReplicaId, EndCause),
    /// The deadline has come.
    Tick,
}

/// What must be done, in the order in which it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a worker on these ports. Always answered by an [`Event::Exited`], sooner or later. The other actions
    /// may name the replica before its process exists.
    Spawn {
        replica: ReplicaId,
        agent: AgentId,
        release: Release,
        port: u16,
        grpc_port: u16,
    },
    /// Calls may go there.
    Publish { agent: AgentId, replica: ReplicaId },
    /// No new call may go there.
    Withdraw { agent: AgentId, replica: ReplicaId },
    /// Let it finish its calls.
    Drain {
        replica: ReplicaId,
        within: Duration,
    },
    /// Ask it to end.
    Terminate(ReplicaId),
    /// End it, with all its descendants.
    Kill(ReplicaId),
    /// The agent has been removed: nothing of it needs to be kept.
    Forget(AgentId),
}
