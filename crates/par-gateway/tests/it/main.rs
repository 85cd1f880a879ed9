//! The gateway between real sockets: raw bytes or HTTP/2 on the side of the caller, small workers on the other.

mod calls;
mod calls_deadline;
mod calls_streaming;
mod channel;
mod door;
mod figures;
mod forwarding;
mod frames;
mod hold;
mod house;
mod limits;
mod names;
mod quotas;
mod refusal;
mod replicas;
mod retire;
mod routing;
mod shutdown;
mod streaming;
mod streams;
mod tls;
mod trunks;
mod upgrade;
mod wake;
mod wire;
mod worker;
