//! The fleet seen from outside: stories that prove one rule each, and properties of whole simulated worlds.

mod ledger;
mod page;
mod properties;
mod soak;
mod stage;
mod step;
mod stories;
mod watch;
mod world;
