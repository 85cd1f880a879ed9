//! Reads what the agent writes, line by line, whatever it writes.
//!
//! The reader never stops and never waits for anybody: a line that is too long is cut into pieces, and lines that
//! come faster than they can be reported are dropped and counted.

use std::time::{SystemTime, UNIX_EPOCH};

use par_model::log::{Level, LogLine, Stream};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::reports::Reporter;

/// Longest line, in bytes; what is longer becomes several.
const LONGEST_LINE: usize = 64 << 10;

/// Reads to the end of the stream, or until reading fails.
pub(crate) async fn collect(mut from: impl AsyncRead + Unpin, stream: Stream, reporter: Reporter) {
    let mut lines = Lines::default();
    let mut piece = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        lines.feed(&piece[..length], |line| report(&reporter, stream, line));
        // Let what was said be told before more is heard: a burst is not a flood.
        tokio::task::yield_now().await;
    }
    lines.finish(|line| report(&reporter, stream, line));
}

fn report(reporter: &Reporter, stream: Stream, line: &[u8]) {
    let message = String::from_utf8_lossy(line).into_owned();
    reporter.log(LogLine {
        at_ms: now_ms(),
        level: Level::of_line(stream, &message),
        stream,
        message,
    });
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Default)]
struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.append(&bytes[..end], &mut line);
            line(without_return(&self.pending));
            self.pending.clear();
            bytes = &bytes[end + 1..];
        }
        self.append(bytes, &mut line);
    }

    fn append(&mut self, mut bytes: &[u8], line: &mut impl FnMut(&[u8])) {
        while self.pending.len() + bytes.len() > LONGEST_LINE {
            let fits = char_boundary(bytes, LONGEST_LINE - self.pending.len());
            self.pending.extend_from_slice(&bytes[..fits]);
            line(&self.pending);
            self.pending.clear();
            bytes = &bytes[fits..];
        }
        self.pending.extend_from_slice(bytes);
    }

    fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.pending.is_empty() {
            line(without_return(&self.pending));
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The largest cut at or before `at` that does not go through a UTF-8 character.
fn char_boundary(bytes: &[u8], at: usize) -> usize {
    let continues = |index: usize| bytes.get(index).is_some_and(|byte| byte & 0xc0 == 0x80);
    (at.saturating_sub(3)..=at)
        .rev()
        .find(|&index| !continues(index))
        .unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut seen = vec![];
        let mut lines = Lines::default();
        for piece in pieces {
            lines.feed(piece, |line| seen.push(line.to_vec()));
        }
        lines.finish(|line| seen.push(line.to_vec()));
        seen
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        assert_eq!(
            cut(&[b"on", b"e\r\ntwo\n\nthr", b"ee"]),
            [&b"one"[..], b"two", b"", b"three"]
        );
    }

    #[test]
    fn a_line_without_end_is_cut_and_nothing_is_lost() {
        let endless = vec![b'x'; 3 * LONGEST_LINE + 5];
        let seen = cut(&[&endless]);
        assert_eq!(
            seen.iter().map(Vec::len).collect::<Vec<_>>(),
            [LONGEST_LINE, LONGEST_LINE, LONGEST_LINE, 5]
        );
    }

    #[test]
    fn a_cut_never_goes_through_a_character() {
        let text = "é".repeat(LONGEST_LINE);
        for piece in cut(&[b"x", text.as_bytes()]) {
            assert!(std::str::from_utf8(&piece).is_ok());
        }
    }
}
