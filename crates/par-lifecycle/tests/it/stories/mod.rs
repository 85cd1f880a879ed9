//! One rule, one story.

mod asking;
mod canaries;
mod ending;
mod ports;
mod rolling;
mod scaling;
mod starting;
mod stopping;
