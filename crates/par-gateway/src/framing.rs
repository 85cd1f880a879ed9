//! Where messages begin and end in what a caller sends, read more strictly than hyper does.
//!
//! hyper is lenient: it lets a bare line feed end a line, prefers `Transfer-Encoding` when `Content-Length` is there
//! too, and accepts codings before `chunked`. Two servers that are lenient in different ways can be made to see
//! different requests in the same bytes (RFC 9112, 11.2), so here each of these ends the connection.
//!
//! ```text
//! Head ──► Sized ──────────────► Head      Head ──► Opaque (asks to leave HTTP; it is the last one)
//!      └─► ChunkSize ─► ChunkData ─► ChunkEnd ─► ChunkSize … Trailers ─► Head
//! ```

/// Longest line that is looked at; hyper's limits are below it, so that a longer one never makes a request.
const MAX_LINE: usize = 256 << 10;

/// A chunk's size and its extensions.
const MAX_CHUNK_LINE: usize = 4 << 10;

#[derive(Debug, Default)]
pub(crate) struct Framing {
    part: Part,
    /// A line that has not ended yet.
    unfinished: Vec<u8>,
}

#[derive(Debug)]
enum Part {
    Head(Head),
    Sized(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Opaque,
}

impl Default for Part {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

/// What the lines of a head have said so far.
#[derive(Debug, Default)]
struct Head {
    begun: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

/// The byte at `at` makes the message one that could be read in two ways.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ambiguous {
    pub(crate) at: usize,
    pub(crate) in_head: bool,
}

impl Framing {
    /// Follows what came next on the connection.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), Ambiguous> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match &mut self.part {
                Part::Opaque => return Ok(()),
                Part::Sized(left) | Part::ChunkData(left) => {
                    let taken = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    self.leave_finished_data();
                    taken
                }
                Part::Head(_) | Part::ChunkSize | Part::ChunkEnd | Part::Trailers => {
                    self.feed_line(rest).map_err(|offset| Ambiguous {
                        at: at + offset,
                        in_head: matches!(self.part, Part::Head(_)),
                    })?
                }
            };
        }
        Ok(())
    }

    fn leave_finished_data(&mut self) {
        match self.part {
            Part::Sized(0) => self.part = Part::default(),
            Part::ChunkData(0) => self.part = Part::ChunkEnd,
            _ => {}
        }
    }

    /// How much of `rest` the line takes, or where it is wrong.
    fn feed_line(&mut self, rest: &[u8]) -> Result<usize, usize> {
        let Some(end) = memchr::memchr(b'\n', rest) else {
            self.unfinished.extend_from_slice(rest);
            let within_limit = self.unfinished.len() <= MAX_LINE;
            return within_limit.then_some(rest.len()).ok_or(0);
        };
        let taken = end + 1;
        let next = if self.unfinished.is_empty() {
            self.part.after_line(&rest[..end])
        } else {
            self.unfinished.extend_from_slice(&rest[..end]);
            let line = std::mem::take(&mut self.unfinished);
            self.part.after_line(&line)
        };
        if let Some(part) = next.ok_or(end)? {
            self.part = part;
        }
        Ok(taken)
    }
}

/// `None` is a refusal; `Some(None)` stays in the same part.
type Step = Option<Option<Part>>;

impl Part {
    /// `line` is everything before the line feed.
    fn after_line(&mut self, line: &[u8]) -> Step {
        let line = line.strip_suffix(b"\r")?;
        if line.contains(&b'\r') {
            return None;
        }
        match self {
            Self::Head(head) if line.is_empty() && head.begun => Some(Some(head.body())),
            Self::Head(head) => head.read_line(line).map(|()| None),
            Self::ChunkSize => chunk_size(line).map(|size| match size {
                0 => Some(Self::Trailers),
                size => Some(Self::ChunkData(size)),
            }),
            Self::ChunkEnd => line.is_empty().then_some(Some(Self::ChunkSize)),
            Self::Trailers if line.is_empty() => Some(Some(Self::default())),
            Self::Trailers => Some(None),
            Self::Sized(_) | Self::ChunkData(_) | Self::Opaque => None,
        }
    }
}

impl Head {
    fn read_line(&mut self, line: &[u8]) -> Option<()> {
        if !self.begun {
            // Empty lines before a request are ignored, the request line is hyper's to read.
            self.begun = !line.is_empty();
            return Some(());
        }
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let first = self.length.replace(decimal(value)?).is_none();
            return (first && !self.chunked).then_some(());
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let first = !std::mem::replace(&mut self.chunked, true);
            let alone = first && self.length.is_none();
            return (alone && value.eq_ignore_ascii_case(b"chunked")).then_some(());
        }
        self.upgrade |= name.eq_ignore_ascii_case(b"upgrade");
        Some(())
    }

    /// What follows the head.
    fn body(&self) -> Part {
        match self.length {
            _ if self.upgrade => Part::Opaque,
            _ if self.chunked => Part::ChunkSize,
            None | Some(0) => Part::default(),
            Some(length) => Part::Sized(length),
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| all_digits)?;
    text.parse().ok()
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    if line.len() > MAX_CHUNK_LINE {
        return None;
    }
    let digits = line.split(|byte| *byte == b';').next()?;
    let all_hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| all_hex)?;
    u64::from_str_radix(text, 16).ok()
}
