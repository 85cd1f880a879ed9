//! What is said on wires. Today: the frames between a worker and its agent process.

pub mod frame;
pub mod harness;

pub use frame::{Frame, FrameCodec, FrameError, Kind};
