//! The worker's HTTP surface, on its port and on its unix socket.

mod answer;
mod asgi;
mod body;
mod call;
mod door;
mod front;
mod server;
mod ui;
mod websocket;

pub(crate) use front::{About, AboutPackage, Front};
pub(crate) use server::Server;
pub(crate) use ui::Ui;
