//! Requests as bytes, and the little of HTTP that is needed to know an answer when it is there.

use anyhow::{Context as _, bail};
use serde_json::Value;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Whether the connection takes another request.
    pub(crate) goes_on: bool,
}

pub(crate) fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    post_with("", path, content_type, body)
}

/// `header`: a whole line, or nothing.
fn post_with(header: &str, path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{header}Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

pub(crate) fn post_json(path: &str, body: &Value) -> Vec<u8> {
    post(path, "application/json", body.to_string().as_bytes())
}

/// Asks for server-sent events.
pub(crate) fn post_json_for_events(path: &str, body: &Value) -> Vec<u8> {
    let (header, body) = ("Accept: text/event-stream\r\n", body.to_string());
    post_with(header, path, "application/json", body.as_bytes())
}

pub(crate) fn bare(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

/// The one answer that `bytes` hold, or `None` when its end has not come yet.
pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = (&bytes[..end], &bytes[end + 4..]);
    let status = status(head).context("the answer begins with no HTTP/1.1 status")?;
    let goes_on = !says_close(head);
    let body = match framing(head)? {
        Framing::Length(length) if rest.len() > length => bail!("more came than was announced"),
        Framing::Length(length) => (rest.len() == length).then(|| rest.to_vec()),
        Framing::Chunked => chunks(rest)?,
    };
    Ok(body.map(|body| Answer {
        status,
        body,
        goes_on,
    }))
}

enum Framing {
    Length(usize),
    Chunked,
}

fn framing(head: &[u8]) -> anyhow::Result<Framing> {
    for (name, value) in headers(head) {
        if name.eq_ignore_ascii_case(b"content-length") {
            return Ok(Framing::Length(std::str::from_utf8(value)?.parse()?));
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Ok(Framing::Chunked);
        }
    }
    bail!("the answer says neither its length nor that it is chunked")
}

fn says_close(head: &[u8]) -> bool {
    headers(head).any(|(name, value)| {
        name.eq_ignore_ascii_case(b"connection") && value.eq_ignore_ascii_case(b"close")
    })
}

/// Names and values.
fn headers(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn chunks(mut rest: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let mut body = vec![];
    loop {
        let Some(line_end) = find(rest, b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&rest[..line_end])?;
        let size = usize::from_str_radix(size, 16).context("a chunk without a size")?;
        let chunk = &rest[line_end + 2..];
        if chunk.len() < size + 2 {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(&chunk[..size]);
        rest = &chunk[size + 2..];
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_the_whole_is_an_answer(bytes: &[u8], body: &[u8]) {
        for end in 0..bytes.len() {
            let part = parse(&bytes[..end]).expect("a part is no mistake");
            assert_eq!(part, None, "{end} bytes");
        }
        let whole = parse(bytes).expect("right").expect("complete");
        assert_eq!((whole.status, whole.body.as_slice()), (200, body));
    }

    #[test]
    fn an_answer_with_a_length_ends_there() {
        only_the_whole_is_an_answer(
            b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 7\r\n\r\n{\"x\":1}",
            b"{\"x\":1}",
        );
    }

    #[test]
    fn the_last_answer_of_a_connection_is_known() {
        let goes_on = |header: &str| {
            let bytes = format!("HTTP/1.1 200 OK\r\n{header}Content-Length: 0\r\n\r\n");
            let whole = parse(bytes.as_bytes()).expect("right");
            whole.expect("complete").goes_on
        };
        assert!(goes_on("") && goes_on("Connection: keep-alive\r\n"));
        assert!(!goes_on("connection: close\r\n"));
    }

    #[test]
    fn an_answer_in_chunks_ends_with_the_empty_one() {
        only_the_whole_is_an_answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"x\r\n4\r\n\":1}\r\n0\r\n\r\n",
            b"{\"x\":1}",
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for wrong in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n22",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
