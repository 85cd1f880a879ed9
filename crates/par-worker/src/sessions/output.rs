//! What a run writes: as much as its answer may hold, never cut within a character.

use bytes::{Bytes, BytesMut};

/// One of the two streams of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// The longest beginning of a character that can be there without its end.
const LONGEST_BEGINNING: usize = 3;

/// Lets so many bytes through; what follows is read and forgotten.
pub(super) struct Cut {
    left: usize,
    /// The beginning of a character whose end has not come yet.
    begun: BytesMut,
    truncated: bool,
}

impl Cut {
    pub(super) fn after(most: usize) -> Self {
        Self {
            left: most,
            begun: BytesMut::new(),
            truncated: false,
        }
    }

    pub(super) fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// What of the next bytes is let through: whole characters, as far as it is text at all.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Bytes {
        if self.truncated {
            return Bytes::new();
        }
        let mut piece = std::mem::take(&mut self.begun);
        piece.extend_from_slice(bytes);
        if piece.len() > self.left {
            piece.truncate(self.left);
            self.truncated = true;
        }
        let whole = whole_characters(&piece);
        let begun = piece.split_off(whole);
        if !self.truncated {
            self.begun = begun;
        }
        self.left -= piece.len();
        piece.freeze()
    }

    /// What was begun and never ended.
    pub(super) fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.begun).freeze()
    }
}

/// Bytes up to the beginning of a character that may go on.
fn whole_characters(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(LONGEST_BEGINNING);
    let beginning = (from..bytes.len())
        .rev()
        .find(|&at| bytes[at] & 0xc0 != 0x80);
    match beginning {
        Some(at) if length_of(bytes[at]) > bytes.len() - at => at,
        _ => bytes.len(),
    }
}

/// How many bytes a character has that begins with this one; 1 for what begins none.
fn length_of(first: u8) -> usize {
    match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_too_much_is_cut_before_the_character_that_does_not_fit() {
        let mut cut = Cut::after(4);
        assert_eq!(cut.take("éé".as_bytes()), "éé".as_bytes());
        assert!(!cut.is_truncated());
        assert!(cut.take(b"x").is_empty());
        assert!(cut.is_truncated());
        let mut cut = Cut::after(3);
        assert_eq!(cut.take("éé".as_bytes()), "é".as_bytes());
        assert!(cut.is_truncated());
        assert!(cut.take(b"x").is_empty(), "nothing follows a cut");
    }

    #[test]
    fn bytes_that_are_no_text_are_let_through_as_they_are() {
        let mut cut = Cut::after(100);
        let mut seen = cut.take(b"\xff\xfe\xf0\x9f").to_vec();
        seen.extend_from_slice(&cut.take(b"x"));
        seen.extend_from_slice(&cut.finish());
        assert_eq!(seen, b"\xff\xfe\xf0\x9fx");
    }

    proptest! {
        #[test]
        fn text_in_any_pieces_comes_through_in_whole_characters(text in ".{0,60}", cuts in prop::collection::vec(1_usize..5, 1..80), most in 0_usize..200) {
            let mut cut = Cut::after(most);
            let (mut seen, mut rest) = (String::new(), text.as_bytes());
            for length in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, later) = rest.split_at(rest.len().min(*length));
                seen.push_str(std::str::from_utf8(&cut.take(piece)).expect("whole characters"));
                rest = later;
            }
            prop_assert!(text.starts_with(&seen));
            prop_assert!(seen.len() <= most);
            prop_assert_eq!(cut.is_truncated(), text.len() > most);
            prop_assert!(cut.is_truncated() || seen.len() == text.len());
        }
    }
}
