//! Control groups: what all processes of an agent may have together.
//!
//! ```text
//! <group of the supervisor>/par-<state folder>/<replica>/agent
//!                                                       /session-1, session-2, …
//! ```
//!
//! The supervisor makes the first two levels, the worker the third: limited before anything runs in it, and joined by
//! the confiner before it becomes the agent. In version 2 this is one folder, in version 1 one for each controller; on a
//! machine that has both, version 1 limits and version 2 freezes and kills. Everything is a file of the kernel's.

mod files;
mod groups;
mod layout;
mod limit;
mod notice;
mod one;

pub use groups::{Groups, Swept};
pub use notice::OutOfMemoryNotices;
pub use one::{Group, GroupEvents, GroupUsage};
