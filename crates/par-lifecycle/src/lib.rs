//! Given what is wanted and what happened, what to do next.
//!
//! [`Fleet`] is a plain value: commands and news go in, actions come out. It knows no clock, no socket and no
//! process; whoever drives it says what time it is, carries out the actions in their order, and reports back.
//!
//! An agent is a current release with its replicas, perhaps a release that comes in beside it, and replicas that leave
//! (drawn in `agent.rs`). The life of one replica:
//!
//! ```text
//!                  a call                silent for long
//!            ┌──────────────── Asleep ◀─────────────────┐
//!            ▼      Ready           Stop, Sleep         │  drained, deadline
//!   ───▶ Starting ───────▶ Serving ──────────────▶ Draining ─────────────────▶ Ending ── deadline: killed
//!         ▲   │ │            │ │  another release    ▲  │                      ▲   │
//!         │   │ │            │ └────────▶ Retiring ──┘  │                      │   │
//!         │   │ └────────────┼──────────────────────────┼── Stop, deadline ────┘   │
//!         │   │ exit         │ exit                     │ exit                     │ exit
//!         │   ▼              ▼                          ▼                          ▼
//!         │  before it       by policy:                 as asked:                  as asked,
//!         │  served: Failed    Stopped, Crashed,          Stopped, Asleep,         or as after an exit
//!         │  else by policy    Waiting                    forgotten, Starting      that nobody asked for
//!         └──── deadline ────────┘
//! ```
//!
//! People see `Waiting` as crashed, `Retiring`, `Draining` and `Ending` as stopping, and `Asleep` as stopped
//! ([`par_model::ProcessState`], [`Idle`]).
//!
//! - An incarnation is over when its exit has been seen, not when it has been killed: until then it holds its
//!   ports, and nothing takes its place.
//! - A [`ReplicaId`](par_model::ReplicaId) is never given twice, so late news of an earlier incarnation names nobody.
//! - What never came up fails at once, with its reason. Only what has served is started again by itself.
//! - A release that comes in beside another takes calls when all its replicas answer, or none: until then, and if it
//!   fails, the other goes on.
//! - Whatever is waited for has a deadline, except the exit of the killed: that always comes.

mod agent;
mod command;
mod desired;
mod event;
mod fleet;
mod group;
mod life;
mod note;
mod ports;
mod route;
mod settings;
mod status;
mod turn;
mod verdict;

pub use command::{Beside, Command, Deployment, Refusal, Release, Restored, Survivor};
pub use desired::{Canary, Desired, Wanted};
pub use event::{Action, Event};
pub use fleet::Fleet;
pub use note::{Note, What};
pub use route::{Route, Routes, Targets};
pub use settings::Settings;
pub use status::{AgentStatus, FleetStatus, Idle, Incarnation, IncomingStatus, ReplicaStatus};
