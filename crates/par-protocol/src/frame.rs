//! Frames between worker and agent process, over the one socketpair that the agent inherits.
//!
//! ```text
//! 0        4        8      9                    9 + length
//! | length | id     | kind | body …            |      integers big-endian
//! ```
//!
//! `length` counts the body alone. Ids of calls are given by the worker and have the high bit clear; ids of
//! outbound calls are given by the agent and have it set. Id 0 speaks of the agent as a whole.
//!
//! | kind       | worker → agent                                   | agent → worker |
//! |------------|--------------------------------------------------|----------------|
//! | `load`     | JSON [`crate::harness::Load`], first frame       | – |
//! | `ready`    | –                                                | JSON [`crate::harness::Ready`], answers `load` |
//! | `call`     | `u16` length of the export's name, the name (empty: invoke; of an action: NUL, its name), the JSON body as it came (empty: `{}`) | – |
//! | `http`     | JSON [`crate::harness::HttpRequest`], or [`crate::harness::Disconnect`] of a WebSocket | JSON [`crate::harness::HttpResponse`] |
//! | `chunk`    | flags `u8`, then bytes: request body, WebSocket message | flags `u8`, then bytes: response body, WebSocket message, one JSON value of a generator (in several chunks where it is large) |
//! | `result`   | answer to `outbound`: `u16` status, body         | the JSON answer as it is sent on; empty: the generator, or the application of a WebSocket that its client left, has ended |
//! | `error`    | answer to `outbound`: JSON [`crate::harness::Failure`] | JSON [`crate::harness::Failure`]; id 0: the agent could not be loaded |
//! | `cancel`   | the caller left, or the deadline passed; answered as told below | the agent no longer wants this outbound call |
//! | `credit`   | `u32`: that many more bytes of chunks may come   | the same |
//! | `outbound` | –                                                | `u16` length of the head, JSON [`crate::harness::Outbound`], the body |
//! | `log`      | –                                                | JSON [`crate::harness::Log`] |
//! | `stop`     | finish, clean up, exit with code 0               | – |
//! | `serves`   | –                                                | JSON [`crate::harness::Serves`], whenever it changes |
//! | `ping`     | a few bytes                                      | – |
//! | `pong`     | –                                                | the same bytes, as soon as the frame was read; where an event loop runs, once that has had a turn too |
//!
//! The agent answers every `cancel` of a call with one `result` or `error`, once nothing of that call runs any more: a
//! thread in a system call, clean-up in a coroutine or an application that has not noticed yet all keep it waiting.
//! This holds for calls, requests and WebSockets, begun or not. A call that is over when its `cancel` comes is
//! answered all the same, so the worker may get one more such frame than it needs, and never waits in vain.
//!
//! Chunks of one id may run ahead of the reader by [`INITIAL_CREDIT`] bytes (flags included) in each direction;
//! whoever reads them grants more with `credit`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// Bytes before the body.
pub const HEADER: usize = 9;
/// The largest body, in bytes: the largest JSON body of a call and room for its export's name.
pub const MAX_BODY: usize = (64 << 20) + (64 << 10);
/// Bytes of chunks that may be sent before the first `credit`.
pub const INITIAL_CREDIT: u32 = 256 << 10;
/// The largest chunk that either side sends, in bytes.
pub const MAX_CHUNK: usize = 64 << 10;
/// Ids given by the agent have this bit.
pub const OUTBOUND_BIT: u32 = 1 << 31;

/// No chunk follows.
pub const CHUNK_LAST: u8 = 1;
/// A WebSocket message is text.
pub const CHUNK_TEXT: u8 = 2;
/// The bytes are trailers: JSON `[[name, value], …]`. Always last.
pub const CHUNK_TRAILERS: u8 = 4;
/// More of the same WebSocket message, or of the same item of a generator, follows.
pub const CHUNK_MORE: u8 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Load = 1,
    Ready = 2,
    Call = 3,
    Http = 4,
    Chunk = 5,
    Result = 6,
    Error = 7,
    Cancel = 8,
    Credit = 9,
    Outbound = 10,
    Log = 11,
    Stop = 12,
    Serves = 13,
    Ping = 14,
    Pong = 15,
}

impl TryFrom<u8> for Kind {
    type Error = FrameError;

    fn try_from(byte: u8) -> Result<Self, FrameError> {
        const KINDS: [Kind; 15] = [
            Kind::Load,
            Kind::Ready,
            Kind::Call,
            Kind::Http,
            Kind::Chunk,
            Kind::Result,
            Kind::Error,
            Kind::Cancel,
            Kind::Credit,
            Kind::Outbound,
            Kind::Log,
            Kind::Stop,
            Kind::Serves,
            Kind::Ping,
            Kind::Pong,
        ];
        usize::from(byte)
            .checked_sub(1)
            .and_then(|index| KINDS.get(index).copied())
            .ok_or(FrameError::UnknownKind(byte))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub id: u32,
    pub kind: Kind,
    pub body: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of kind {0} is not known")]
    UnknownKind(u8),
    #[error("a frame of {0} bytes is larger than the limit")]
    TooLarge(usize),
    #[error("a call was answered more than once")]
    OutOfTurn,
    #[error("the agent does not read what it is sent")]
    NotRead,
    #[error("a frame ends too early")]
    Truncated,
    #[error("the channel to the agent broke")]
    Io(#[from] std::io::Error),
}

#[derive(Clone, Copy, Debug)]
pub struct FrameCodec {
    /// The largest body that is read, in bytes.
    pub most: usize,
}

impl Default for FrameCodec {
    fn default() -> Self {
        Self { most: MAX_BODY }
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(header) = source.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let mut header = &header[..];
        let length = header.get_u32() as usize;
        let id = header.get_u32();
        let kind = Kind::try_from(header.get_u8())?;
        if length > self.most {
            return Err(FrameError::TooLarge(length));
        }
        if source.len() < HEADER + length {
            source.reserve(HEADER + length - source.len());
            return Ok(None);
        }
        source.advance(HEADER);
        let body = source.split_to(length).freeze();
        Ok(Some(Frame { id, kind, body }))
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: Frame, target: &mut BytesMut) -> Result<(), FrameError> {
        put(target, frame.id, frame.kind, &[&frame.body])
    }
}

/// Writes one frame whose body is `parts`, one after the other.
pub fn put(target: &mut BytesMut, id: u32, kind: Kind, parts: &[&[u8]]) -> Result<(), FrameError> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let too_large = || FrameError::TooLarge(length);
    let announced = u32::try_from(length).map_err(|_| too_large())?;
    if length > MAX_BODY {
        return Err(too_large());
    }
    target.reserve(HEADER + length);
    target.put_u32(announced);
    target.put_u32(id);
    target.put_u8(kind as u8);
    for part in parts {
        target.put_slice(part);
    }
    Ok(())
}

/// Splits `u16` length, head, rest: the bodies of `call` and `outbound`.
pub fn split_head(mut body: Bytes) -> Result<(Bytes, Bytes), FrameError> {
    let length = usize::from(body.try_get_u16().map_err(|_| FrameError::Truncated)?);
    if body.len() < length {
        return Err(FrameError::Truncated);
    }
    let head = body.split_to(length);
    Ok((head, body))
}

/// Splits flags and bytes: the body of `chunk`.
pub fn split_chunk(mut body: Bytes) -> Result<(u8, Bytes), FrameError> {
    let flags = body.try_get_u8().map_err(|_| FrameError::Truncated)?;
    Ok((flags, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        (
            any::<u32>(),
            1_u8..=15,
            prop::collection::vec(any::<u8>(), 0..300),
        )
            .prop_map(|(id, kind, body)| Frame {
                id,
                kind: Kind::try_from(kind).expect("1 to 15 are kinds"),
                body: body.into(),
            })
    }

    #[test]
    fn a_frame_that_announces_too_much_is_refused_before_it_is_read() {
        let mut bytes = BytesMut::from(&[0xff_u8, 0xff, 0xff, 0xff, 0, 0, 0, 1, 3][..]);
        assert!(matches!(
            FrameCodec::default().decode(&mut bytes),
            Err(FrameError::TooLarge(_))
        ));
    }

    #[test]
    fn a_reader_may_want_smaller_frames() {
        let mut codec = FrameCodec { most: 10 };
        let mut wire = BytesMut::new();
        for length in [10, 11] {
            put(&mut wire, 1, Kind::Result, &[&vec![0; length]]).expect("it fits");
        }
        assert!(matches!(codec.decode(&mut wire), Ok(Some(_))));
        assert!(matches!(
            codec.decode(&mut wire),
            Err(FrameError::TooLarge(11))
        ));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut_of_the_stream(frames in prop::collection::vec(any_frame(), 0..10), cut in 1_usize..50) {
            let mut wire = BytesMut::new();
            for frame in &frames {
                FrameCodec::default().encode(frame.clone(), &mut wire).expect("small frames fit");
            }
            let (mut seen, mut buffer) = (vec![], BytesMut::new());
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = FrameCodec::default().decode(&mut buffer).expect("what we wrote is valid") {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = FrameCodec::default().decode(&mut buffer) {
                let _either_way_is_fine = split_head(frame.body.clone());
                let _either_way_is_fine = split_chunk(frame.body);
            }
        }
    }
}
