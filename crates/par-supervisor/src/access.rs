//! Who may call: tokens, the keys of an issuer, rules of agents, all published at the gate; and what was decided there.

mod audit;
mod fetch;
mod gatekeeper;
mod issuer;
mod offline;
mod operator;
mod settings;
mod token;

pub(crate) use audit::{AuditLog, MOST_READ};
pub(crate) use gatekeeper::{Gatekeeper, TokenError, publish_rules};
pub(crate) use issuer::KeyKeeper;
pub(crate) use offline::has_token;
pub(crate) use operator::OperatorFile;
pub(crate) use settings::check_open;

pub use offline::{OfflineError, create_token};
pub use operator::{OPERATOR_FILE, OperatorToken};
pub use settings::{AccessSettings, KeySource, Oidc, OpenToOthers};
