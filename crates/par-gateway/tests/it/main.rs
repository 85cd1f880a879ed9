//! The gateway between real sockets: raw bytes on the caller's side, small workers on the other.

mod door;
mod forwarding;
mod hold;
mod house;
mod limits;
mod refusal;
mod routing;
mod shutdown;
mod streaming;
mod upgrade;
mod wire;
mod worker;
