//! What is refused in front, whoever serves: the gateway and the worker's own ports alike.
//!
//! ```text
//! bytes ─► strict (framing: one way to read them) ─► hyper ─► host (is it us?) ─► quota (not too much?) ─► the call
//! ```
//! Deciding is apart from doing: `framing`, `host` and `rate` are values that know no socket and no clock.

mod accounts;
mod addressed;
mod calm;
mod chatter;
mod framing;
mod host;
mod pulse;
mod quota;
mod rate;
mod strict;
mod words;

pub use accounts::{Accounts, Key};
pub use addressed::settle_host;
pub use calm::Calm;
pub use chatter::{Chatter, Flood};
pub use framing::{Ambiguous, Framing};
pub use host::{Host, Names};
pub use pulse::Pulse;
pub use quota::{Account, Connected, Exceeded, Quota, Turn};
pub use rate::Rate;
pub use strict::Strict;
pub use words::whole_answer;
