//! Frames of HTTP/2 that ask for nothing: each costs the other side work, and none of its bounds ends them.
//!
//! Pings, settings, priorities, window updates, empty data and frames that nobody knows are paid from a credit that grows with time, with
//! what is asked, and with what is answered. Whoever has used it up only talks.

/// In bytes of an answer; everything is counted in them.
const COST: u64 = 512;
/// What a caller begins with, and the most that it can save.
const MOST: u64 = 5_000 * COST;
/// Each second.
const A_SECOND: u64 = 100 * COST;
/// For each frame that brings something.
const FOR_SUBSTANCE: u64 = 4 * COST;

const HEAD: usize = 9;
const PREFACE: u32 = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
/// RST_STREAM, GOAWAY, and CONTINUATION, which h2 bounds by the calls that they belong to.
const BOUNDED: [u8; 3] = [3, 7, 9];
const END_STREAM: u8 = 1;

/// Follows one connection, from its first byte on.
#[derive(Debug)]
pub struct Chatter {
    credit: u64,
    /// Nanoseconds.
    seen_at: u64,
    /// Bytes until the next frame.
    skip: u32,
    head: [u8; HEAD],
    filled: usize,
}

/// The caller has used up its credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood;

impl Chatter {
    pub fn begin(now: u64) -> Self {
        Self {
            credit: MOST,
            seen_at: now,
            skip: PREFACE,
            head: [0; HEAD],
            filled: 0,
        }
    }

    /// What was written to the caller.
    pub fn answered(&mut self, bytes: usize) {
        self.earn(bytes as u64);
    }

    /// What came from the caller.
    pub fn feed(&mut self, mut bytes: &[u8], now: u64) -> Result<(), Flood> {
        let passed = now.saturating_sub(self.seen_at);
        self.seen_at = now;
        self.earn(
            u64::try_from(u128::from(passed) * u128::from(A_SECOND) / 1_000_000_000)
                .unwrap_or(MOST),
        );
        while !bytes.is_empty() {
            let skipped = bytes.len().min(self.skip as usize);
            self.skip -= u32::try_from(skipped).expect("no more than was to be skipped");
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(HEAD - self.filled);
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD {
                self.filled = 0;
                self.weigh()?;
            }
        }
        Ok(())
    }

    fn weigh(&mut self) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.skip = length;
        match kind {
            HEADERS => self.earn(FOR_SUBSTANCE),
            DATA if length > 0 || flags & END_STREAM != 0 => self.earn(FOR_SUBSTANCE),
            kind if BOUNDED.contains(&kind) => {}
            _ => self.credit = self.credit.checked_sub(COST).ok_or(Flood)?,
        }
        Ok(())
    }

    fn earn(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(bytes).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn begun() -> Chatter {
        let mut chatter = Chatter::begin(0);
        chatter
            .feed(&[b'P'; PREFACE as usize], 0)
            .expect("the preface");
        chatter
    }

    /// Of so many of the same, how many passed.
    fn passed(chatter: &mut Chatter, one: &[u8], most: usize, now: u64) -> usize {
        (0..most)
            .take_while(|_| chatter.feed(one, now).is_ok())
            .count()
    }

    #[test]
    fn whoever_only_talks_is_told_apart() {
        for one in [
            frame(6, 0, &[0; 8]),
            frame(4, 0, &[]),
            frame(2, 0, &[0; 5]),
            frame(8, 0, &[0; 4]),
            frame(0, 0, &[]),
            frame(99, 0, b"x"),
        ] {
            assert_eq!(passed(&mut begun(), &one, 10_000, 0), 5_000, "{one:?}");
        }
    }

    #[test]
    fn a_slow_ping_a_large_answer_and_many_calls_are_none_of_it() {
        let (ping, update) = (frame(6, 0, &[0; 8]), frame(8, 0, &[0; 4]));
        let mut chatter = begun();
        for second in 0..200 {
            assert_eq!(passed(&mut chatter, &ping, 100, second * SECOND), 100);
        }
        for _ in 0..50_000 {
            chatter.answered(16 << 10);
            chatter
                .feed(&update, 200 * SECOND)
                .expect("a window for what was read");
        }
        for _ in 0..50_000 {
            for one in [
                frame(1, 4, b"x"),
                update.clone(),
                update.clone(),
                frame(0, 1, b"y"),
            ] {
                chatter.feed(&one, 200 * SECOND).expect("a call");
            }
        }
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_changes_nothing(payloads in proptest::collection::vec((0_u8..10, 0_u8..2, 0_usize..40), 0..40), cut in 1_usize..30) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, &vec![7; *length])).collect();
            let (mut whole, mut cuts) = (begun(), begun());
            whole.feed(&bytes, 0).expect("few");
            for piece in bytes.chunks(cut) {
                cuts.feed(piece, 0).expect("few");
            }
            prop_assert_eq!(whole.credit, cuts.credit);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _either_way = Chatter::begin(0).feed(&bytes, 1);
        }
    }
}
