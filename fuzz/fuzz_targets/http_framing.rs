//! Messages end at the same bytes, and are refused at the same byte, however the stream is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use par_door::{Ambiguous, Chatter, Framing};

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let whole = Framing::default().feed(bytes).err();
    let (mut framing, mut at, mut found) = (Framing::default(), 0, None);
    for piece in bytes.chunks(usize::from(cut) + 1) {
        if let Err(Ambiguous { at: offset, in_head }) = framing.feed(piece) {
            found = Some(Ambiguous { at: at + offset, in_head });
            break;
        }
        at += piece.len();
    }
    assert_eq!(whole, found);
    assert!(whole.is_none_or(|found| found.at < bytes.len()));
    let mut chatter = Chatter::begin(0);
    let whole = Chatter::begin(0).feed(bytes, 0).is_ok();
    let cuts = bytes.chunks(usize::from(cut) + 1).all(|piece| chatter.feed(piece, 0).is_ok());
    assert_eq!(whole, cuts);
});
