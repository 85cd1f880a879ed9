//! What is said on wires: the frames between a worker and its Python processes, and the protobuf of its services.

pub mod frame;
pub mod harness;
pub mod protobuf;
pub mod session;

pub use frame::{Frame, FrameCodec, FrameError, Kind};
