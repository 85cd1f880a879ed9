//! Makes an authority of what clients of the agent's own door name it by.
//!
//! gRPC's C core, and so grpcio, sends the path of a unix socket as `:authority`, percent-encoded: `tmp%2Fa.sock`. That
//! is no authority (RFC 9113, 8.3.1), and h2 resets the stream (<https://github.com/hyperium/h2/pull/487>). Here each
//! `%` of it becomes `-` before h2 reads it: nothing is made of the name on this door. All else passes unread.
//!
//! ```text
//! preface ─► frame ─► frame …        of a HEADERS or CONTINUATION frame: padding, priority, then
//!                                    field ─► number ─► name ─► value ─► field …      (RFC 7541, 6)
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Of `:authority` in the static table.
const AUTHORITY: u64 = 1;
/// The C core spells it out.
const AUTHORITY_NAME: &[u8] = b":authority";

/// A stream whose reader sees tidy authorities.
pub(super) struct Tidied<S> {
    stream: S,
    frames: Frames,
}

impl<S> Tidied<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            frames: Frames::default(),
        }
    }
}

/// Where in its frames the stream is.
struct Frames {
    part: Part,
    fields: Fields,
}

enum Part {
    /// So many bytes that nothing is looked for in.
    Skip(usize),
    Header([u8; FRAME_HEADER], usize),
    /// The length of the padding, of a frame of `left` further bytes.
    PadLength {
        left: usize,
        priority: usize,
    },
    Block {
        skip: usize,
        left: usize,
        padding: usize,
    },
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            part: Part::Skip(PREFACE),
            fields: Fields::default(),
        }
    }
}

impl Frames {
    fn tidy(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next(*byte);
        }
    }

    fn next(&mut self, byte: u8) -> u8 {
        let mut seen = byte;
        self.part = match std::mem::replace(&mut self.part, Part::Skip(0)) {
            Part::Skip(left) => skipped(left - 1),
            Part::Header(mut header, had) => {
                header[had] = byte;
                match had + 1 {
                    FRAME_HEADER => self.begin(header),
                    had => Part::Header(header, had),
                }
            }
            Part::PadLength { left, priority } => block(priority, left, usize::from(byte)),
            Part::Block {
                skip,
                left,
                padding,
            } => {
                if skip == 0 {
                    seen = self.fields.next(byte);
                }
                block(skip.saturating_sub(1), left - 1, padding)
            }
        };
        seen
    }

    fn begin(&mut self, header: [u8; FRAME_HEADER]) -> Part {
        let [high, middle, low, kind, flags, ..] = header;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            HEADERS => {
                self.fields = Fields::default();
                let priority = if flags & PRIORITY == 0 { 0 } else { 5 };
                match (flags & PADDED, length) {
                    (0, _) | (_, 0) => block(priority, length, 0),
                    _ => Part::PadLength {
                        left: length - 1,
                        priority,
                    },
                }
            }
            CONTINUATION => block(0, length, 0),
            _ => skipped(length),
        }
    }
}

fn skipped(left: usize) -> Part {
    match left {
        0 => Part::Header([0; FRAME_HEADER], 0),
        left => Part::Skip(left),
    }
}

/// What follows of a block of fields: the priority, the fields, the padding.
fn block(skip: usize, left: usize, padding: usize) -> Part {
    match left {
        left if left <= padding => skipped(left),
        left => Part::Block {
            skip,
            left,
            padding,
        },
    }
}

/// Where in a block of fields the stream is.
#[derive(Default)]
struct Fields {
    at: At,
    /// How much of a name that is spelled out is that of an authority; none when it is another.
    spelled: Option<usize>,
}

#[derive(Clone, Copy, Default)]
enum At {
    /// The first byte of a field.
    #[default]
    Field,
    /// The rest of a number, and what it is.
    Number {
        so_far: u64,
        shift: u32,
        is: Number,
    },
    /// The first byte of a text.
    Text {
        is: Text,
    },
    Inside {
        left: u64,
        is: Text,
        tidy: bool,
    },
}

#[derive(Clone, Copy)]
enum Number {
    /// A field that is known already, or a size: nothing follows.
    Whole,
    /// The name of a field whose value follows.
    Name,
    Length {
        is: Text,
        huffman: bool,
    },
}

#[derive(Clone, Copy, PartialEq)]
enum Text {
    Name,
    Value { of_authority: bool },
}

impl Fields {
    fn next(&mut self, byte: u8) -> u8 {
        match self.at {
            At::Field => {
                let (bits, is) = match byte {
                    0x80.. => (7, Number::Whole),
                    0x40.. => (6, Number::Name),
                    0x20.. => (5, Number::Whole),
                    _ => (4, Number::Name),
                };
                self.at = number(byte, bits, is);
            }
            At::Number { so_far, shift, is } => {
                let more = u64::from(byte & 0x7f)
                    .checked_shl(shift)
                    .unwrap_or_default();
                let so_far = so_far.saturating_add(more);
                self.at = match byte & 0x80 {
                    0 => is.then(so_far),
                    _ => At::Number {
                        so_far,
                        shift: shift + 7,
                        is,
                    },
                };
            }
            At::Text { is } => {
                let huffman = byte & 0x80 != 0;
                if is == Text::Name {
                    self.spelled = Some(0);
                }
                self.at = number(byte, 7, Number::Length { is, huffman });
            }
            At::Inside { left, is, tidy } => {
                self.at = inside(left - 1, is, tidy);
                if is == Text::Name {
                    self.spell(byte);
                }
                if tidy && byte == b'%' {
                    return b'-';
                }
            }
        }
        byte
    }
}

impl Fields {
    fn spell(&mut self, byte: u8) {
        let so_far = self
            .spelled
            .filter(|at| AUTHORITY_NAME.get(*at) == Some(&byte));
        self.spelled = so_far.map(|at| at + 1);
        if let At::Text {
            is: Text::Value { of_authority },
        } = &mut self.at
        {
            *of_authority = self.spelled == Some(AUTHORITY_NAME.len());
        }
    }
}

/// A number whose first byte has room for `bits` of it.
fn number(byte: u8, bits: u32, is: Number) -> At {
    let most = (1_u8 << bits) - 1;
    match byte & most {
        all if all == most => At::Number {
            so_far: u64::from(most),
            shift: 0,
            is,
        },
        few => is.then(u64::from(few)),
    }
}

impl Number {
    /// What follows a number.
    fn then(self, number: u64) -> At {
        match self {
            Self::Whole => At::Field,
            Self::Name if number == 0 => At::Text { is: Text::Name },
            Self::Name => At::Text {
                is: Text::Value {
                    of_authority: number == AUTHORITY,
                },
            },
            Self::Length { is, huffman } => {
                let tidy = is == Text::Value { of_authority: true } && !huffman;
                inside(number, is, tidy)
            }
        }
    }
}

fn inside(left: u64, is: Text, tidy: bool) -> At {
    match (left, is) {
        (0, Text::Name) => At::Text {
            is: Text::Value {
                of_authority: false,
            },
        },
        (0, Text::Value { .. }) => At::Field,
        (left, is) => At::Inside { left, is, tidy },
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tidied<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let from = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.frames.tidy(&mut buf.filled_mut()[from..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tidied<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    /// A literal field that goes into the table, with the static name `index`, or with `name` for 0.
    fn literal(index: u8, name: &str, value: &str) -> Vec<u8> {
        let mut field = vec![0x40 | index];
        for text in [Some(name).filter(|_| index == 0), Some(value)]
            .into_iter()
            .flatten()
        {
            match u8::try_from(text.len()).expect("short") {
                few @ 0..127 => field.push(few),
                many => field.extend([0x7f, many - 127]),
            }
            field.extend_from_slice(text.as_bytes());
        }
        field
    }

    fn tidied(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frames.concat());
        Frames::default().tidy(&mut bytes);
        bytes.split_off(PREFACE)
    }

    #[test]
    fn only_the_authority_is_touched() {
        let path = literal(4, "", "/a%2F.Agent/A%");
        let data = frame(0, 0, b"\x41\x03a%b");
        let own = literal(0, "x", "1%2");
        let block = |authority: &str| {
            [
                path.clone(),
                literal(1, "", authority),
                vec![0x83, 0x3f, 0x81, 0x01],
                own.clone(),
            ]
            .concat()
        };
        let padded = |authority: &str| {
            let block = block(authority);
            let padded = [vec![3, 0, 0, 0, 0, 9], block, b"%%%".to_vec()].concat();
            frame(HEADERS, PADDED | PRIORITY, &padded)
        };
        let long = "x".repeat(140);
        let (untidy, tidy) = (format!("tmp%2Fa.sock{long}"), format!("tmp-2Fa.sock{long}"));
        let sent = [
            data.clone(),
            frame(HEADERS, 0, &block("a%b")),
            padded(&untidy),
            data.clone(),
        ];
        let seen = [
            data.clone(),
            frame(HEADERS, 0, &block("a-b")),
            padded(&tidy),
            data,
        ];
        assert_eq!(tidied(&sent), seen.concat());
    }

    #[test]
    fn a_block_may_be_cut_into_frames_anywhere() {
        let block = [literal(1, "", "tmp%2Fa.sock"), literal(0, "n", "%")].concat();
        let tidy = [literal(1, "", "tmp-2Fa.sock"), literal(0, "n", "%")].concat();
        for cut in 0..=block.len() {
            let frames = |block: &[u8]| {
                [
                    frame(HEADERS, 0, &block[..cut]),
                    frame(CONTINUATION, 4, &block[cut..]),
                ]
            };
            assert_eq!(tidied(&frames(&block)), frames(&tidy).concat());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_change_anything_but_percents(bytes: Vec<u8>) {
            let mut seen = bytes.clone();
            Frames::default().tidy(&mut seen);
            for (before, after) in bytes.iter().zip(&seen) {
                prop_assert!(before == after || (*before, *after) == (b'%', b'-'));
            }
        }

        #[test]
        fn no_frames_make_it_panic(kinds in prop::collection::vec((0_u8..10, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8)) {
            let frames: Vec<_> = kinds.iter().map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
            let _seen = tidied(&frames);
        }
    }
}
