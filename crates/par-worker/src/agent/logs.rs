//! Reads what the agent writes, line by line, whatever it writes.
//!
//! The reader never stops and never waits for anybody: a line that is too long is cut into pieces, and lines that
//! come faster than they can be reported are dropped and counted. What a call printed has marks around it
//! ([`par_protocol::harness::output_mark`]); they are taken away, and the lines of calls that print at one time are put together one by one.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memchr;
use par_model::log::{Level, Levels, LogLine, Stream};
use par_protocol::harness::{MARK_BEGIN, MARK_END};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::call_names::CallNames;
use crate::reports::Reporter;

/// Longest line, in bytes; what is longer becomes several.
const LONGEST_LINE: usize = 64 << 10;
/// Lines that are unfinished at one time, each of another call.
const MOST_UNFINISHED: usize = 32;
/// Digits of the number of a call.
const LONGEST_NUMBER: usize = 10;

/// The output of one incarnation of the agent.
pub(crate) struct Output {
    /// Known to the harness and to us.
    pub(crate) mark: String,
    pub(crate) names: CallNames,
    /// Lines that have come.
    heard: Cell<u64>,
}

impl Output {
    pub(crate) fn new() -> std::io::Result<Rc<Self>> {
        let mark = random_word()?;
        let names = CallNames::new(random_word()?[..8].to_owned());
        Ok(Rc::new(Self {
            mark,
            names,
            heard: Cell::new(0),
        }))
    }

    /// How many lines have come so far.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.get()
    }
}

/// Sixteen hexadecimal digits that nobody can guess.
fn random_word() -> std::io::Result<String> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    debug_assert_eq!(filled, bytes.len(), "the kernel gives so few at once");
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// Reads to the end of the stream, or until reading fails.
pub(crate) async fn collect(
    from: Option<impl AsyncRead + Unpin>,
    stream: Stream,
    output: Rc<Output>,
    reporter: Reporter,
) {
    let Some(mut from) = from else { return };
    let mut lines = Lines::of(stream, &output.mark);
    let mut piece = vec![0; 16 << 10];
    let report = |line: Line| {
        output.heard.set(output.heard.get() + 1);
        reporter.log(LogLine {
            at_ms: now_ms(),
            level: line.level,
            stream,
            replica: None,
            call: output.names.of(line.call),
            message: line.message,
        });
    };
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        lines.feed(&piece[..length], report);
        // What fills the piece has more behind it.
        let is_drained = length < piece.len();
        lines.finish_those_of(|call| output.names.is_over(call), is_drained, report);
        // Let what was said be told before more is heard: a burst is not a flood.
        tokio::task::yield_now().await;
    }
    lines.finish(report);
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// One line, or one piece of a long one.
struct Line {
    call: u32,
    level: Level,
    message: String,
}

/// Cuts a stream of bytes into lines of bounded length, by who wrote them.
struct Lines {
    mark: String,
    levels: Levels,
    /// Whose the bytes are that come now; 0 for nobody's.
    call: u32,
    /// The beginning of what may be a mark.
    begun_mark: Vec<u8>,
    /// In the order in which they were begun.
    unfinished: Vec<Unfinished>,
    /// Who wrote the last line.
    last: u32,
}

struct Unfinished {
    call: u32,
    bytes: Vec<u8>,
    /// Of the pieces that were cut off already.
    level: Option<Level>,
    /// Its call was over when somebody looked.
    was_over: bool,
}

/// What stands where a mark may begin.
enum Mark {
    /// From here on, after so many bytes, this call writes.
    Of {
        call: u32,
        length: usize,
    },
    /// More has to come before it is known.
    Perhaps,
    No,
}

impl Lines {
    fn of(stream: Stream, mark: &str) -> Self {
        Self {
            mark: mark.to_owned(),
            levels: Levels::of(stream),
            call: 0,
            begun_mark: vec![],
            unfinished: vec![],
            last: 0,
        }
    }

    fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(Line)) {
        let mut joined = std::mem::take(&mut self.begun_mark);
        let mut bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        while let Some(at) = memchr(MARK_BEGIN as u8, bytes) {
            let (before, rest) = bytes.split_at(at);
            match self.mark(rest) {
                Mark::Of { call, length } => {
                    self.text(before, &mut line);
                    self.call = call;
                    bytes = &rest[length..];
                }
                Mark::Perhaps => {
                    self.text(before, &mut line);
                    self.begun_mark = rest.to_vec();
                    return;
                }
                Mark::No => {
                    self.text(&bytes[..=at], &mut line);
                    bytes = &bytes[at + 1..];
                }
            }
        }
        self.text(bytes, &mut line);
    }

    fn mark(&self, rest: &[u8]) -> Mark {
        // From its first byte to the colon.
        let head = self.mark.len() + 2;
        let written = &rest[1..rest.len().min(head)];
        let expected = self.mark.bytes().chain([b':']);
        if !written.iter().copied().eq(expected.take(written.len())) {
            return Mark::No;
        }
        let number = rest.get(head..).unwrap_or_default();
        let digits = number.iter().take_while(|byte| byte.is_ascii_digit());
        let digits = digits.count().min(LONGEST_NUMBER + 1);
        match number.get(digits) {
            None if digits <= LONGEST_NUMBER => Mark::Perhaps,
            Some(&end) if end == MARK_END as u8 => {
                let text = std::str::from_utf8(&number[..digits]).unwrap_or_default();
                let length = head + digits + 1;
                text.parse()
                    .map_or(Mark::No, |call| Mark::Of { call, length })
            }
            _ => Mark::No,
        }
    }

    fn text(&mut self, mut bytes: &[u8], line: &mut impl FnMut(Line)) {
        while let Some(end) = memchr(b'\n', bytes) {
            self.append(&bytes[..end], line);
            let ended = match self.place() {
                Some(place) => self.unfinished.remove(place),
                None => Unfinished::of(self.call),
            };
            line(self.line(ended));
            bytes = &bytes[end + 1..];
        }
        self.append(bytes, line);
    }

    fn append(&mut self, mut bytes: &[u8], line: &mut impl FnMut(Line)) {
        if bytes.is_empty() {
            return;
        }
        let place = self.place().unwrap_or_else(|| {
            self.unfinished.push(Unfinished::of(self.call));
            self.unfinished.len() - 1
        });
        while self.unfinished[place].bytes.len() + bytes.len() > LONGEST_LINE {
            let pending = &mut self.unfinished[place];
            let fits = char_boundary(bytes, LONGEST_LINE - pending.bytes.len());
            pending.bytes.extend_from_slice(&bytes[..fits]);
            let piece = Unfinished {
                bytes: std::mem::take(&mut pending.bytes),
                ..*pending
            };
            let piece = self.line(piece);
            self.unfinished[place].level = Some(piece.level);
            line(piece);
            bytes = &bytes[fits..];
        }
        self.unfinished[place].bytes.extend_from_slice(bytes);
        if self.unfinished.len() > MOST_UNFINISHED {
            let oldest = self.unfinished.remove(0);
            line(self.line(oldest));
        }
    }

    /// Where the unfinished line is to which the bytes belong that come now.
    fn place(&self) -> Option<usize> {
        let is_it = |unfinished: &Unfinished| unfinished.call == self.call;
        self.unfinished.iter().position(is_it)
    }

    fn line(&mut self, ended: Unfinished) -> Line {
        let bytes = ended.bytes.strip_suffix(b"\r").unwrap_or(&ended.bytes);
        let message = String::from_utf8_lossy(bytes).into_owned();
        if self.last != ended.call {
            self.levels.interrupt();
            self.last = ended.call;
        }
        Line {
            call: ended.call,
            level: ended.level.unwrap_or_else(|| self.levels.next(&message)),
            message,
        }
    }

    /// Takes the lines that nobody finishes any more. What a call wrote last may be read after its end: it is all there
    /// when the call was over before, and everything that had come by now `is_drained`.
    fn finish_those_of(
        &mut self,
        is_over: impl Fn(u32) -> bool,
        is_drained: bool,
        mut line: impl FnMut(Line),
    ) {
        let mut place = 0;
        while let Some(unfinished) = self.unfinished.get_mut(place) {
            let is_over = unfinished.call != 0 && is_over(unfinished.call);
            if is_over && unfinished.was_over && is_drained {
                let ended = self.unfinished.remove(place);
                line(self.line(ended));
            } else {
                unfinished.was_over = is_over;
                place += 1;
            }
        }
    }

    fn finish(&mut self, mut line: impl FnMut(Line)) {
        let begun = std::mem::take(&mut self.begun_mark);
        self.text(&begun, &mut line);
        for ended in std::mem::take(&mut self.unfinished) {
            line(self.line(ended));
        }
    }
}

impl Unfinished {
    fn of(call: u32) -> Self {
        Self {
            call,
            bytes: vec![],
            level: None,
            was_over: false,
        }
    }
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
    use par_protocol::harness::output_mark;
    use proptest::prelude::*;

    use super::*;

    const MARK: &str = "0123456789abcdef";

    fn read(pieces: &[&[u8]]) -> Vec<Line> {
        let mut seen = vec![];
        let mut lines = Lines::of(Stream::Stdout, MARK);
        for piece in pieces {
            lines.feed(piece, |line| seen.push(line));
        }
        lines.finish(|line| seen.push(line));
        seen
    }

    fn cut(pieces: &[&[u8]]) -> Vec<String> {
        read(pieces).into_iter().map(|line| line.message).collect()
    }

    fn by(call: u32, text: &str) -> String {
        output_mark(MARK, call) + text + &output_mark(MARK, 0)
    }

    fn told(lines: &[Line]) -> Vec<(u32, &str)> {
        let told = lines.iter().map(|line| (line.call, line.message.as_str()));
        told.collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        assert_eq!(
            cut(&[b"on", b"e\r\ntwo\n\nthr", b"ee"]),
            ["one", "two", "", "three"]
        );
    }

    #[test]
    fn a_line_without_end_is_cut_and_nothing_is_lost() {
        let endless = [b"ERROR ".to_vec(), vec![b'x'; 3 * LONGEST_LINE - 1]].concat();
        let seen = read(&[&endless]);
        let lengths: Vec<usize> = seen.iter().map(|line| line.message.len()).collect();
        assert_eq!(lengths, [LONGEST_LINE, LONGEST_LINE, LONGEST_LINE, 5]);
        assert!(seen.iter().all(|line| line.level == Level::Error));
    }

    #[test]
    fn a_cut_never_goes_through_a_character() {
        let text = "é".repeat(LONGEST_LINE);
        for piece in cut(&[b"x", text.as_bytes()]) {
            assert!(!piece.contains('\u{fffd}'));
        }
    }

    #[test]
    fn marks_say_whose_a_line_is_and_are_taken_away() {
        let text = format!("before\n{}raw\n{}", by(1, "one\npa"), by(2, "two\n"));
        let text = text + "more raw\n" + &by(1, "rt\n");
        let lines = read(&[text.as_bytes()]);
        let expected = [
            (0, "before"),
            (1, "one"),
            (0, "raw"),
            (2, "two"),
            (0, "more raw"),
            (1, "part"),
        ];
        assert_eq!(told(&lines), expected);
    }

    #[test]
    fn what_is_nearly_a_mark_stays_text() {
        let forged = [
            "\x1e",
            "\x1e\x1f",
            "\x1e0123456789abcdee:1\x1f",
            "\x1e0123456789abcdef:99999999999\x1f",
            "\x1e0123456789abcdef:x\x1f",
        ];
        for text in forged {
            assert_eq!(cut(&[text.as_bytes(), b"\n"]), [text]);
            assert_eq!(cut(&[text.as_bytes()]), [text]);
        }
    }

    #[test]
    fn lines_that_nobody_finishes_are_bounded_and_come_when_their_call_is_over() {
        let mut seen = vec![];
        let mut lines = Lines::of(Stream::Stdout, MARK);
        for call in 1..=40 {
            lines.feed(by(call, "begun").as_bytes(), |line| seen.push(line.call));
        }
        assert_eq!(seen, (1..=8).collect::<Vec<_>>());
        let is_over = |call| call == 20;
        for is_drained in [true, false] {
            lines.finish_those_of(is_over, is_drained, |line| seen.push(line.call));
            assert_eq!(seen.len(), 8);
        }
        lines.finish_those_of(is_over, true, |line| seen.push(line.call));
        assert_eq!(seen.last(), Some(&20));
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_lines(
            written in prop::collection::vec((0_u32..3, "[ab\x1e\n:0]{0,12}"), 0..12),
            cut in 1_usize..30,
        ) {
            let text: String = written.iter().map(|(call, text)| match call {
                0 => text.clone(),
                call => by(*call, text),
            }).collect();
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            let in_pieces = read(&pieces);
            let at_once = read(&[text.as_bytes()]);
            prop_assert_eq!(told(&in_pieces), told(&at_once));
            // Each call's text is all there, and in order.
            for call in 0..3 {
                let whole: String = written.iter().filter(|(by, _)| *by == call).map(|(_, text)| text.as_str()).collect();
                let mut lines: Vec<&str> = told(&at_once).into_iter().filter(|(by, _)| *by == call).map(|(_, text)| text).collect();
                if whole.ends_with('\n') || whole.is_empty() {
                    lines.push("");
                }
                prop_assert_eq!(lines.join("\n"), whole);
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..10)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            read(&pieces);
        }
    }
}
