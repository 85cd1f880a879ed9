//! One agent's process: its surfaces, its adapter, its sessions.
//!
//! Everything runs on one thread. The worker is trusted and serves HTTP and gRPC; the agent's code runs in a process of its own
//! behind one socketpair, so that whatever it does, health and other calls are answered.

mod admission;
mod agent;
mod alone;
mod control;
mod egress;
mod ending;
mod fate;
mod figures;
mod grpc;
mod http;
mod idle;
mod life;
mod limits;
mod prepare;
mod reports;
mod serving;
mod sessions;
mod surroundings;
mod variables;

pub use alone::{Alone, AloneError, run_alone};
pub use control::run;

pub(crate) use par_model::failure::chain;
