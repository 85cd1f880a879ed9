//! Sends a call to a ready replica; waits for one if there is none.
//!
//! ```text
//! doors ─► serve ─► path ─► hold ─► upstream ─► forward ─► body | tunnel
//! (accept,  (one     (which  (which   (a pooled   (one call)
//!  deal)    caller)  agent)  replica:  connection)
//!             │               targets, session)
//!             └─► streams ─► grpc ─► hold ─► trunk ─► call ─► call_body
//!                 (HTTP/2)   (which          (shared  (one gRPC call)
//!                            agent)          by many)
//! ```
//! Each thread has its own runtime, connections and pools; all they share is the published [`Routes`]. A request
//! that is not for an agent is the [`Control`]'s.

mod backend;
mod body;
mod call;
mod call_body;
mod control;
mod deadline;
mod doors;
mod figures;
mod forward;
mod gate;
mod gateway;
mod grpc;
mod headers;
mod hold;
mod idle;
mod ledger;
pub mod path;
mod pump;
mod refusal;
mod room;
mod routes;
mod serve;
mod session;
mod session_peek;
mod sniff;
mod streams;
mod targets;
mod tls;
mod trunk;
mod tunnel;
mod upstream;
mod watch;

pub use backend::Backend;
pub use body::{BoxError, ControlBody};
pub use control::{Callers, Control, ControlAnswer, Peer, Wake};
pub use gate::{Decided, Gate};
pub use gateway::{Gateway, Listeners, start};
pub use room::Config;
pub use routes::{Bell, Route, RouteTable, Routes};
pub use targets::Targets;
pub use tls::Tls;
