//! Messages in a body: a byte that says whether the message is compressed, its length, the message.

use anyhow::ensure;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;

const PREFIX: usize = 5;

pub(super) fn framed(message: &impl Message) -> Bytes {
    let length = u32::try_from(message.encoded_len()).expect("a message of the benchmark is small");
    let mut framed = BytesMut::with_capacity(PREFIX + message.encoded_len());
    framed.put_u8(0);
    framed.put_u32(length);
    message
        .encode(&mut framed)
        .expect("there is room for as much as it said");
    framed.freeze()
}

/// What came of a body and is not read yet.
#[derive(Default)]
pub(super) struct Unread(BytesMut);

impl Unread {
    pub(super) fn put(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next message, none while its end has not come.
    pub(super) fn take(&mut self) -> anyhow::Result<Option<Bytes>> {
        let Some(prefix) = self.0.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let mut prefix = &prefix[..];
        ensure!(prefix.get_u8() == 0, "a message is compressed");
        let length = prefix.get_u32() as usize;
        if self.0.len() < PREFIX + length {
            return Ok(None);
        }
        self.0.advance(PREFIX);
        Ok(Some(self.0.split_to(length).freeze()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::grpc::messages::ExecuteRequest;

    fn message(code: &str) -> ExecuteRequest {
        ExecuteRequest {
            code: code.to_owned(),
            session_id: "s".to_owned(),
        }
    }

    #[test]
    fn messages_come_back_whole_wherever_the_body_is_cut() {
        let messages = [message("1 + 1"), message(""), message(&"x".repeat(300))];
        let body: Vec<u8> = messages.iter().flat_map(framed).collect();
        for cut in 1..body.len() {
            let (mut unread, mut seen) = (Unread::default(), vec![]);
            for piece in body.chunks(cut) {
                unread.put(piece);
                while let Some(bytes) = unread.take().expect("it is well framed") {
                    seen.push(ExecuteRequest::decode(bytes).expect("we wrote it"));
                }
            }
            assert_eq!(seen, messages, "pieces of {cut} bytes");
            assert!(unread.is_empty());
        }
    }

    #[test]
    fn a_compressed_message_is_refused() {
        let mut unread = Unread::default();
        unread.put(&[1, 0, 0, 0, 0]);
        assert!(unread.take().is_err());
    }
}
