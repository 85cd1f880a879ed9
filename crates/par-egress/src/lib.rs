//! The one way out of an agent: an HTTP proxy in its worker that lets through what the operator granted, and nothing else.
//!
//! ```text
//! accept ─► who is it ─► granted? ─► resolve ─► which of its addresses may be reached ─► connect to that very address
//!                                                                                             │
//!          CONNECT   a tunnel, once the server name of its ClientHello is the granted one ◄───┤
//!          http://   a request, its Host the granted one, secrets put in; in TLS if so granted ◄┘
//! ```
//!
//! It knows no processes and no other agents: whoever calls [`serve`] hands it a listener, which may lie in the network
//! namespace of the agent, and a policy that may change at any time.

mod address;
mod authorization;
mod connection;
mod figures;
mod forward;
mod headers;
mod hello;
mod journal;
mod meter;
mod policy;
mod refusal;
mod resolve;
mod route;
mod serve;
mod tls;
mod tunnel;

pub use address::special;
pub use authorization::Authorization;
pub use figures::Figures;
pub use policy::{Policy, Way};
pub use refusal::Refusal;
pub use resolve::{Resolver, system_resolver};
pub use serve::{Door, serve};
pub use tls::Trust;
