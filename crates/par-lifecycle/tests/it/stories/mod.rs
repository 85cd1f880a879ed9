//! One rule, one story.

mod asking;
mod ending;
mod ports;
mod starting;
mod stopping;
