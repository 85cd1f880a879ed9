//! The worker's HTTP surface, on its port and on its unix socket.

mod answer;
mod asgi;
mod body;
mod call;
mod door;
mod front;
mod naming;
mod packed;
mod server;
mod sessions;
mod ui;
mod websocket;

pub(crate) use asgi::probe;
pub(crate) use call::ask;
pub(crate) use door::Door;
pub(crate) use front::{About, AboutPackage, Front};
pub(crate) use naming::given;
pub(crate) use server::{Listeners, Server};
pub(crate) use ui::Ui;
