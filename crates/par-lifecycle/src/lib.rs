//! Given what is wanted and what happened, what to do next.
//!
//! [`Fleet`] is a plain value: commands and news go in, actions come out. It knows no clock, no socket and no
//! process; whoever drives it says what time it is, carries out the actions in their order, and reports back.
//!
//! The life of one agent, as people see it ([`par_model::ProcessState`]) and as the machine does:
//!
//! ```text
//!  starting       running            stopping                          at rest
//! ┌──────────┐   ┌─────────┐ Stop   ┌──────────┐ drained  ┌────────┐ exit  ┌──────────────────────────┐
//! │ Starting │──▶│ Serving │───────▶│ Draining │─────────▶│ Ending │──────▶│ Stopped  Failed  Crashed │
//! └──────────┘   └─────────┘        └──────────┘ deadline └────────┘       └──────────────────────────┘
//!   ▲  │ │ Ready      │ exit               Stop, timeout  ▲    │ exit, after Restart          │
//!   │  │ └────────────┼───────────────────────────────────┘    │                              │
//!   │  │ exit         ▼ by policy                              │                   Start, Deploy
//!   │  └────────▶ Waiting (crashed, restarts at …)             │                              │
//!   └────────────────┴─────────────────────────────────────────┴──────────────────────────────┘
//! ```
//!
//! - An incarnation is over when its exit has been seen, not when it has been killed: until then it holds its
//!   ports, and nothing takes its place.
//! - A [`ReplicaId`](par_model::ReplicaId) is never given twice, so late news of an earlier incarnation names nobody.
//! - What never came up fails at once, with its reason. Only what has served is started again by itself.
//! - Every state in which a process is being waited for has a deadline, except serving, and except the killed:
//!   those always end.

mod command;
mod event;
mod fleet;
mod life;
mod ports;
mod route;
mod settings;
mod status;
mod turn;
mod verdict;

pub use command::{Command, Deployment, Refusal, Release};
pub use event::{Action, Event};
pub use fleet::Fleet;
pub use route::{Route, Routes};
pub use settings::Settings;
pub use status::{AgentStatus, FleetStatus, Incarnation};
