//! Frames come out the same however the stream is cut, and are written as they were read.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use par_protocol::frame::{Frame, FrameCodec, split_chunk, split_head};
use tokio_util::codec::{Decoder, Encoder};

/// All frames that `pieces` hold, and whether the stream broke.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, bool) {
    let (mut frames, mut buffer) = (vec![], BytesMut::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match FrameCodec::default().decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let whole = decode(std::iter::once(bytes));
    assert_eq!(whole, decode(bytes.chunks(usize::from(cut) + 1)));
    let mut written = BytesMut::new();
    for frame in whole.0 {
        FrameCodec::default().encode(frame.clone(), &mut written).expect("what was read can be written");
        let _either_way_is_fine = split_head(frame.body.clone());
        let _either_way_is_fine = split_chunk(frame.body);
    }
    assert!(bytes.starts_with(&written));
});
