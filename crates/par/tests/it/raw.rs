//! One connection, spoken to byte by byte.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) struct Raw {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Raw {
    pub(crate) fn connect(url: &str) -> Self {
        let address = url.strip_prefix("http://").expect("a URL of ours");
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).expect("a TCP socket");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends the head of a request; `lines` are its headers.
    pub(crate) fn send_head(&mut self, request: &str, lines: &[&str]) {
        let mut head = format!("{request} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
        for line in lines {
            head.push_str(&format!("{line}\r\n"));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes()).expect("sent");
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// A line without its end; empty at the end of a head, and of the stream.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// Status line and headers, names in lowercase.
    pub(crate) fn head(&mut self) -> Vec<String> {
        let lines = std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty()));
        let lowercase = |line: String| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
            None => line,
        };
        lines.map(lowercase).collect()
    }

    /// The next chunk of a chunked body; empty for the last.
    pub(crate) fn chunk(&mut self) -> Vec<u8> {
        let size = usize::from_str_radix(&self.line(), 16).expect("a chunk's size");
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk).expect("a chunk");
        if size > 0 {
            self.line();
        }
        chunk
    }

    /// What is left of the body that `head` announces.
    pub(crate) fn body(&mut self, head: &[String]) -> Vec<u8> {
        let mut length = head
            .iter()
            .filter_map(|line| line.strip_prefix("content-length: "));
        if let Some(length) = length.next() {
            let mut body = vec![0; length.parse().expect("a number")];
            self.stream.read_exact(&mut body).expect("a body");
            return body;
        }
        let mut body = vec![];
        loop {
            let chunk = self.chunk();
            if chunk.is_empty() {
                return body;
            }
            body.extend(chunk);
        }
    }
}
