//! The daemon: performs what the lifecycle decides; control API and gateway in front.
//!
//! ```text
//! main thread:     api ──messages──▶ driver ──actions──▶ effects ──▶ workers
//!                   ▲                  │  ▲                  │
//!                   └──── snapshot ────┘  └───── events ─────┘
//! gateway threads: listener ──▶ routes (published) ──▶ worker's socket
//! ```

mod api;
mod catalog;
mod config;
mod daemon;
mod driver;
mod effects;
mod gone;
mod limits;
mod logs;
mod message;
mod orders;
mod ports;
mod snapshot;
mod state;

pub use config::{FileAgent, Given, Mistakes, Settings};
pub use daemon::{Announcement, StartError, run};
pub use limits::LimitDefaults;

pub(crate) use par_model::failure::chain;
