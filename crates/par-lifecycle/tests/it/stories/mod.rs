//! One rule, one story.

mod asking;
mod canaries;
mod ending;
mod idling;
mod ports;
mod restoring;
mod rolling;
mod scaling;
mod sessions;
mod starting;
mod stopping;
