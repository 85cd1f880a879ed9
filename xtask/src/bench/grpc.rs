//! The little of gRPC that a client needs: `h2` carries it, on the one thread of everything here.
//!
//! The messages are those fields of ours that are used, written once more: the program that writes the Rust of the
//! protobuf files shall not need it to be built.

mod call;
mod channel;
mod framing;
pub(crate) mod messages;

pub(crate) use call::{GrpcCall, Request};
pub(crate) use channel::Channel;
