//! A caller that says exactly what the test says.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Longer than anything takes; a test that waits this long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future)
        .await
        .expect("this happens within moments")
}

pub(crate) struct Wire<S = TcpStream> {
    pub(crate) stream: S,
    received: Vec<u8>,
}

impl Wire {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        Self::over(stream)
    }
}

impl Wire<UnixStream> {
    pub(crate) async fn through(door: &Path) -> Self {
        Self::over(UnixStream::connect(door).await.expect("a connection"))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref()))
            .await
            .expect("sent");
    }

    /// Everything up to and with `mark`.
    pub(crate) async fn read_until(&mut self, mark: &str) -> String {
        loop {
            if let Some(at) = find(&self.received, mark.as_bytes()) {
                let taken: Vec<u8> = self.received.drain(..at + mark.len()).collect();
                return String::from_utf8(taken).expect("text");
            }
            let more = self.read_more().await;
            assert!(
                more,
                "`{mark}` never came: {}",
                self.received.escape_ascii()
            );
        }
    }

    async fn read_more(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        let count = soon(self.stream.read(&mut buffer)).await.unwrap_or(0);
        self.received.extend_from_slice(&buffer[..count]);
        count > 0
    }

    pub(crate) async fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(self.read_more().await, "the stream ended early");
        }
        self.received.drain(..count).collect()
    }

    pub(crate) async fn read_to_end(&mut self) -> String {
        while self.read_more().await {}
        String::from_utf8(std::mem::take(&mut self.received)).expect("text")
    }

    /// As [`Wire::read_to_end`], of what is no text.
    pub(crate) async fn read_rest(&mut self) -> Vec<u8> {
        while self.read_more().await {}
        std::mem::take(&mut self.received)
    }

    /// One whole answer that says how long it is.
    pub(crate) async fn answer(&mut self) -> String {
        let head = self.read_until("\r\n\r\n").await;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.expect("a content-length").parse().expect("a number");
        head + &String::from_utf8(self.read_exactly(length).await).expect("text")
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// One request on a connection of its own, and all that comes back until it is closed.
pub(crate) async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut wire = Wire::to(address).await;
    wire.send(request).await;
    wire.read_to_end().await
}

/// `GET` on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n");
    ask(address, request).await
}
