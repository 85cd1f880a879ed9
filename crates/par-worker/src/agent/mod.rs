//! The agent as the worker sees it: a process, and a channel to it.

pub(crate) mod call_names;
pub(crate) mod channel;
pub(crate) mod errands;
pub(crate) mod exchange;
pub(crate) mod liveness;
pub(crate) mod load;
pub(crate) mod logs;
pub(crate) mod outbound;
pub(crate) mod process;
pub(crate) mod sockets;
pub(crate) mod tunnels;

pub(crate) use exchange::Exchange;
