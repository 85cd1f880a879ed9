//! The commands, one a file: its arguments, then what it does.

mod asking;
pub(crate) mod audit;
pub(crate) mod build;
pub(crate) mod call;
pub(crate) mod completions;
pub(crate) mod deploy;
pub(crate) mod doctor;
mod environment;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod fleet;
mod following;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod lifecycle;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod packing;
pub(crate) mod ps;
pub(crate) mod releases;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod upgrade;

use crate::client::Client;
use crate::terminal::Terminal;

/// What every command is given.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) terminal: Terminal,
}

impl Context {
    /// `par …`, to be copied: with `--url` when the supervisor is not where commands look for it.
    pub(crate) fn par(&self, words: &str) -> String {
        let origin = self.client.origin();
        let par = program();
        if origin.is_default() {
            format!("{par} {words}")
        } else {
            format!("{par} --url {origin} {words}")
        }
    }
}

/// How we were called: `target/release/par` when that is where we are.
pub(crate) fn program() -> String {
    let called = std::env::args().next();
    called
        .filter(|name| name.contains('/'))
        .unwrap_or_else(|| "par".to_owned())
}
