//! What happened to incarnations, and what is to be done with them.

use std::time::Duration;

use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId};

use crate::{Note, Release};

/// News from the world. News of an incarnation that is over changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its worker process exists.
    Spawned { replica: ReplicaId, pid: u32 },
    /// Its dependencies are there; its code begins to load.
    Prepared(ReplicaId),
    /// It answers.
    Ready(ReplicaId),
    /// Nobody has called it for as long as its idle timeout says.
    Quiet(ReplicaId),
    /// It is called again after a silence; if it was frozen, it has thawed by itself.
    Busy(ReplicaId),
    /// Whether it has execution sessions, which end with it.
    Sessions { replica: ReplicaId, any: bool },
    /// Its worker does not answer any more, though it lives.
    Silent { replica: ReplicaId, after: Duration },
    /// Its last call has been answered.
    Drained(ReplicaId),
    /// It is gone, nothing of it holds a port any more, and this is why. Also the answer to a
    /// [`Action::Spawn`] that came to nothing: [`EndCause::PortTaken`] makes the fleet choose another port.
    Exited(ReplicaId, EndCause),
    /// The deadline has come.
    Tick,
}

/// What must be done, in the order in which it is given, after the routes of now were published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a worker on these ports. Always answered by an [`Event::Exited`], sooner or later. The other actions
    /// may name the replica before its process exists.
    Spawn {
        replica: ReplicaId,
        agent: AgentId,
        slot: u32,
        release: Release,
        port: u16,
        grpc_port: u16,
    },
    /// Hold its processes still until the next call, unless one came meanwhile.
    Freeze(ReplicaId),
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
    /// Something that people want to know.
    Tell(Note),
}
