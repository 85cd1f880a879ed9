//! The nouns of Multi-PAR: names, ids, specs, statuses, the failure table, API bodies.
//!
//! Everything here is a plain value. No clock, no socket, no process: the supervisor and the
//! worker meet in these words and share no other code.

pub mod access;
pub mod api;
pub mod control;
pub mod egress;
pub mod event;
pub mod failure;
pub mod grpc;
pub mod headers;
pub mod id;
pub mod isolation;
pub mod limits;
pub mod log;
pub mod network;
pub mod policy;
pub mod session;
pub mod status;

pub use access::Scope;
pub use failure::CallError;
pub use id::{AgentId, PackageDigest, ProcessId, ReplicaId, Role, SessionId, TokenName, Version};
pub use isolation::{Isolation, Layer, Profile};
pub use policy::{RestartMode, RestartPolicy};
pub use session::{RunFailure, SessionLimits, Tier};
pub use status::ProcessState;
