//! The fleet seen from outside: stories that prove one rule each, and properties of whole simulated worlds.

mod stage;
mod stories;
