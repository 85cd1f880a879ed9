//! The fleet seen from outside: stories that prove one rule each, and properties of whole simulated worlds.

mod book;
mod ledger;
mod page;
mod properties;
mod rebirth;
mod soak;
mod stage;
mod step;
mod stories;
mod watch;
mod world;
