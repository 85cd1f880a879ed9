//! The binary as its users meet it.

mod calls;
mod demo;
mod deploy;
mod packages;
mod ran;
mod running;
mod unreachable;
mod usage;
