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
pub struct Framing {
    part: Part,
    /// A line that has not ended yet.
    unfinished: Vec<u8>,
    /// A head was whole since [`Framing::take_whole_head`].
    whole_head: bool,
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
pub struct Ambiguous {
    pub at: usize,
    pub in_head: bool,
}

impl Framing {
    /// Follows what came next on the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Ambiguous> {
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

    /// Whether there is a request to answer since this was last asked.
    pub fn take_whole_head(&mut self) -> bool {
        std::mem::take(&mut self.whole_head)
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
            self.whole_head |= matches!(self.part, Part::Head(_));
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether everything in `bytes` is fine, and whether a next head would begin right after it.
    fn fate(bytes: &[u8]) -> Result<bool, Ambiguous> {
        let mut framing = Framing::default();
        framing.feed(bytes)?;
        let at_a_head = matches!(&framing.part, Part::Head(head) if !head.begun);
        Ok(at_a_head && framing.unfinished.is_empty())
    }

    #[test]
    fn a_message_ends_where_its_framing_says() {
        for whole in [
            "GET / HTTP/1.1\r\nhost: g\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\na\r\n\r\n0\r\nx: y\r\n\r\n",
        ] {
            assert_eq!(fate(whole.as_bytes()), Ok(true), "{whole:?}");
            let all_but_one = &whole.as_bytes()[..whole.len() - 1];
            assert_eq!(fate(all_but_one), Ok(false), "{whole:?}");
        }
    }

    #[test]
    fn the_place_of_a_refusal_is_the_byte_that_made_it_ambiguous() {
        let head = b"GET / HTTP/1.1\r\nhost: g\n\r\n";
        let refused = Ambiguous {
            at: 23,
            in_head: true,
        };
        assert_eq!(fate(head), Err(refused));
    }

    #[test]
    fn nothing_is_read_into_what_follows_a_wish_to_leave_http() {
        let head = b"GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n\n\n\0";
        assert_eq!(fate(head), Ok(false));
    }

    /// Requests of all framings, with what makes some of them ambiguous.
    fn messages() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("POST / HTTP/1.1\r\n"),
            Just("content-length: 3\r\n"),
            Just("content-length: 0\r\n"),
            Just("transfer-encoding: chunked\r\n"),
            Just("x: y\r\n"),
            Just("\r\n"),
            Just("\n"),
            Just("\r"),
            Just("abc"),
            Just("3\r\nabc\r\n"),
            Just("0\r\n\r\n"),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_changes_nothing(bytes in messages(), cuts in proptest::collection::vec(1_usize..9, 0..40)) {
            let mut framing = Framing::default();
            let (mut at, mut cuts) = (0, cuts.into_iter().chain(std::iter::repeat(1)));
            let mut outcome = Ok(());
            while at < bytes.len() && outcome.is_ok() {
                let end = bytes.len().min(at + cuts.next().expect("endless"));
                outcome = framing.feed(&bytes[at..end]).map_err(|found| Ambiguous { at: at + found.at, ..found });
                at = end;
            }
            prop_assert_eq!(outcome.err(), Framing::default().feed(&bytes).err());
        }

        #[test]
        fn no_bytes_make_it_panic_or_point_outside(bytes: Vec<u8>) {
            if let Err(found) = Framing::default().feed(&bytes) {
                prop_assert!(found.at < bytes.len());
            }
        }

        #[test]
        fn a_body_of_any_bytes_ends_where_its_length_says(body: Vec<u8>) {
            let mut message = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
            message.extend_from_slice(&body);
            prop_assert_eq!(fate(&message), Ok(true));
        }

        #[test]
        fn a_body_of_any_chunks_ends_where_its_last_chunk_does(chunks: Vec<Vec<u8>>) {
            let mut message = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                message.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                message.extend_from_slice(chunk);
                message.extend_from_slice(b"\r\n");
            }
            message.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(fate(&message), Ok(true));
        }
    }
}
