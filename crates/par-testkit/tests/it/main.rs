//! What holds between crates.

mod arrows;
mod sources;
