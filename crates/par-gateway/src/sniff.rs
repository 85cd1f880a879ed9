//! What a caller speaks, told by its first bytes, which stay in the socket for whoever serves it.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, recv};
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

/// How HTTP/2 begins; chosen so that no request of HTTP/1 does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// A socket that can be looked into.
pub(crate) trait Sniff: AsFd {
    async fn readable(&self) -> io::Result<Ready>;

    /// `WouldBlock` waits for news: what is already there is no reason to look again.
    fn look<T>(&self, look: impl FnOnce() -> io::Result<T>) -> io::Result<T>;
}

impl Sniff for TcpStream {
    async fn readable(&self) -> io::Result<Ready> {
        self.ready(Interest::READABLE).await
    }

    fn look<T>(&self, look: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.try_io(Interest::READABLE, look)
    }
}

impl Sniff for UnixStream {
    async fn readable(&self) -> io::Result<Ready> {
        self.ready(Interest::READABLE).await
    }

    fn look<T>(&self, look: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.try_io(Interest::READABLE, look)
    }
}

/// Waits for as many bytes as it takes. What ends before is for HTTP/1 to refuse.
pub(crate) async fn protocol(stream: &impl Sniff) -> io::Result<Protocol> {
    loop {
        let ready = stream.readable().await?;
        let looked = stream.look(|| {
            let mut bytes = [0; PREFACE.len()];
            let (count, _) = recv(stream, &mut bytes, RecvFlags::PEEK)?;
            told_by(&bytes[..count]).ok_or_else(|| ErrorKind::WouldBlock.into())
        });
        match looked {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Err(_) if ready.is_read_closed() => return Ok(Protocol::Http1),
            Err(_) => {}
            Ok(protocol) => return Ok(protocol),
        }
    }
}

/// None while it may be either.
fn told_by(bytes: &[u8]) -> Option<Protocol> {
    match bytes {
        PREFACE => Some(Protocol::Http2),
        [] => Some(Protocol::Http1), // the end of the stream
        _ if PREFACE.starts_with(bytes) => None,
        _ => Some(Protocol::Http1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_tells() {
        for (bytes, told) in [
            ("GET / HTTP/1.1\r\n", Some(Protocol::Http1)),
            ("PO", Some(Protocol::Http1)),
            ("PRI * HTTP/1.1\r\n\r\n", Some(Protocol::Http1)),
            ("P", None),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Protocol::Http2)),
        ] {
            assert_eq!(told_by(bytes.as_bytes()), told, "{bytes:?}");
        }
    }
}
