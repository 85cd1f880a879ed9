//! The binary as its users meet it.

mod agents_calling;
mod alone;
mod big_bodies;
mod blocking;
mod calls;
mod control;
mod crashes;
mod demo;
mod dependencies;
mod deploy;
mod descendants;
mod ending;
mod failing_handlers;
mod failing_starts;
mod packages;
mod passing;
mod ports;
mod ran;
mod raw;
mod running;
mod scene;
mod streams;
mod surroundings;
mod unreachable;
mod usage;
