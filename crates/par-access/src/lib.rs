//! Who calls, and whether that caller may.
//!
//! ```text
//! headers ─► credentials ─► Access::identify ─► Caller ─┐
//!            (which of them    (token | JWT |            ├─► Access::decide ─► allowed, or the rule that says no
//!             is for us)        nobody)      Action ─────┘
//! ```
//! [`Access`] is a snapshot: made anew when a token, a key or a rule changes, read by every request, and never changed.
//! Nothing here has a clock, a file or a socket.

mod access;
mod action;
mod caller;
mod credentials;
mod jwt;
mod keys;
mod rules;
mod token;
mod verified;

pub use access::{Access, Denial, Shown, Unidentified};
pub use action::Action;
pub use caller::{Caller, Standing};
pub use credentials::{Malformed, Presented, is_our_token, presented};
pub use jwt::{BadJwt, Issuer};
pub use keys::{BadKeys, Keys};
pub use rules::{AgentRules, AgentsMay, Policy, Rules};
pub use token::{KeptToken, MOST_TOKENS, NewToken, TokenHash, TokenId, Tokens};
pub use verified::Verified;
