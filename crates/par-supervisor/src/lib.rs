//! The daemon: performs what the lifecycle decides; control API and gateway in front.
//!
//! ```text
//! main thread:     api ──messages──▶ driver ──actions──▶ effects ──▶ workers
//!                   ▲                  │  ▲                  │
//!                   └──── snapshot ────┘  └───── events ─────┘
//! gateway threads: listener ──▶ routes (published) ──▶ worker's socket
//! ```

mod access;
mod adoption;
mod allowances;
mod api;
mod bounds;
mod catalog;
mod config;
mod daemon;
mod driver;
mod effects;
mod egress_tally;
mod events;
mod gone;
mod handover;
mod house;
mod incarnation;
mod keeper;
mod limits;
mod listed;
mod logs;
mod message;
mod notes;
mod notify;
mod orders;
mod plane;
mod ports;
mod publisher;
mod restore;
mod secret;
mod signals;
mod snapshot;
mod state;
mod tls;
mod users;
mod walls;
mod wishes;

pub use access::{
    AccessSettings, KeySource, OPERATOR_FILE, OfflineError, Oidc, OpenToOthers, OperatorToken,
    create_token,
};
pub use config::{DoorSettings, FileAgent, Given, Mistakes, Settings, usual_state};
pub use daemon::{Announcement, StartError, run};
pub use events::webhooks::{Secret, Target, Webhook};
pub use limits::LimitDefaults;
pub use logs::LogSettings;
pub use tls::{ClientAuth, TlsError, TlsFiles};
pub use walls::{IsolationSettings, try_walls, walls_alone};

pub(crate) use par_model::failure::chain;
