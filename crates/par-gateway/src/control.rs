//! What the owner of the gateway answers itself, and who asks.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use par_model::AgentId;
use tokio::runtime::Handle;

use crate::body::ControlBody;

/// Through which door a request came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Public {
        address: SocketAddr,
        /// What the caller's certificate calls it, if it has shown one that we trust.
        certificate: Option<Arc<str>>,
    },
    /// The worker of this agent, on behalf of its agent.
    Internal(AgentId),
}

pub type ControlAnswer = Pin<Box<dyn Future<Output = Response<ControlBody>> + Send>>;

/// The control API: all requests that are not for an agent.
#[derive(Clone)]
pub struct Control {
    /// Where the answers are worked out; the threads of the gateway only pass them on.
    pub runtime: Handle,
    pub answer: Arc<dyn Fn(Request<Incoming>, Peer) -> ControlAnswer + Send + Sync>,
}

/// Called when a call has come for an agent that sleeps, once for each sleep. It must not block: calls of others wait
/// behind it.
pub type Wake = Arc<dyn Fn(&AgentId) + Send + Sync>;

/// The agent whose worker is the process with this id.
pub type Callers = Arc<dyn Fn(u32) -> Option<AgentId> + Send + Sync>;
