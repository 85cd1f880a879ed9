//! Tries ports before they are given out.

use std::io;
use std::net::{IpAddr, TcpListener};

/// Whether both ports could be listened on just now. A worker that comes too late all the same says so itself.
pub(crate) fn are_free(host: IpAddr, ports: [u16; 2]) -> bool {
    ports.iter().all(|&port| can_listen(host, port).is_ok())
}

fn can_listen(host: IpAddr, port: u16) -> io::Result<()> {
    // The standard library sets SO_REUSEADDR, as the worker will: connections that linger do not count.
    TcpListener::bind((host, port)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let taken = TcpListener::bind((host, 0)).expect("a free port");
        let port = taken.local_addr().expect("bound").port();
        assert!(!are_free(host, [port, 0]));
        assert!(!are_free(host, [0, port]));
        drop(taken);
        assert!(are_free(host, [port, 0]));
    }
}
