//! The binary as its users meet it.

mod packages;
mod ran;
mod unreachable;
mod usage;
