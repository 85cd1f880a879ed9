//! The worker's gRPC surface: on the agent's gRPC port, on its unix socket, and on the agent's own door.
//!
//! ```text
//! connection ─► route ─┬─► agent_service   pixell.agent.AgentService
//!                      ├─► python_agent    pixell.python_agent.PythonAgent
//!                      ├─► standard        grpc.health.v1, grpc.reflection
//!                      ├─► own             whatever the agent serves itself, over its socket
//!                      └─► outward         calls of the agent to other agents, to the supervisor
//! ```

mod agent_service;
mod authority;
mod codec;
mod connection;
mod counted;
mod link;
mod outward;
mod own;
mod python_agent;
mod reply;
mod route;
mod standard;
mod time;
mod unary;

pub(crate) use connection::serve;
pub(crate) use outward::Outward;
pub(crate) use own::Own;
pub(crate) use standard::Standard;
