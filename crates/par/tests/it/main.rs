//! The binary as its users meet it.

mod alone;
mod calls;
mod demo;
mod deploy;
mod ending;
mod packages;
mod ran;
mod running;
mod unreachable;
mod usage;
