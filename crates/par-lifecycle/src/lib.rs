//! Given what is wanted and what happened, what to do next.
//!
//! [`Fleet`] is a plain value: commands and news go in, actions come out. It knows no clock, no socket and no
//! process; whoever drives it says what time it is, carries out the actions in their order, and reports back.
//!
//! The life of one agent:
//!
//! ```text
//!             Ready           Stop              drained, deadline
//!   Starting ───────▶ Serving ──────▶ Draining ───────────────────▶ Ending ── deadline: killed
//!    ▲   │ │             │               │                          ▲   │
//!    │   │ └─────────────┼───────────────┼── Stop, deadline ────────┘   │
//!    │   │ exit          │ exit          │ exit                         │ exit
//!    │   ▼               ▼               ▼                              ▼
//!    │  before it served:  by policy:    as asked:                    as asked,
//!    │    Failed             Stopped       Stopped                    or for a start in vain
//!    │  else by policy       Crashed       forgotten                  as from Starting
//!    │                       Waiting       Starting again
//!    └──── deadline ────────────┘
//! ```
//!
//! People see `Waiting` as crashed, `Draining` and `Ending` as stopping ([`par_model::ProcessState`]).
//!
//! - An incarnation is over when its exit has been seen, not when it has been killed: until then it holds its
//!   ports, and nothing takes its place.
//! - A [`ReplicaId`](par_model::ReplicaId) is never given twice, so late news of an earlier incarnation names nobody.
//! - What never came up fails at once, with its reason. Only what has served is started again by itself.
//! - Whatever is waited for has a deadline, except the exit of the killed: that always comes.

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
