//! Tells a service manager who we are and that we serve; sd_notify(3).

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::warn;

pub(crate) fn notify() {
    let words = format!("MAINPID={}\nREADY=1\n", std::process::id());
    if let Some(Err(error)) = send(words.as_bytes()) {
        warn!(%error, "failed to tell the service manager that we serve");
    }
}

/// `None` when nobody wants to know.
fn send(words: &[u8]) -> Option<io::Result<()>> {
    let path = std::env::var_os("NOTIFY_SOCKET")?;
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(words, &address));
    Some(sent.map(|_| ()))
}
