//! Sends a call to a ready replica; waits for one if there is none.
//!
//! ```text
//! doors ─► serve ─► path ─► hold ─► upstream ─► forward ─► body | tunnel
//! (accept,  (one     (which  (which   (a pooled   (one call)
//!  deal)    caller)  agent)  replica)  connection)
//! ```
//! Each thread has its own runtime, connections and pools; all they share is the published [`Routes`]. A request
//! that is not for an agent is the [`Control`]'s.

mod body;
mod control;
mod doors;
mod forward;
mod framing;
mod gateway;
mod headers;
mod hold;
mod path;
mod refusal;
mod room;
mod routes;
mod serve;
mod strict;
mod tunnel;
mod upstream;
mod watch;

pub use body::{BoxError, ControlBody};
pub use control::{Callers, Control, ControlAnswer, Peer};
pub use gateway::{Gateway, Listeners, start};
pub use room::Config;
pub use routes::{Backend, Route, RouteTable, Routes};
