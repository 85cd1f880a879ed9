//! Which session a gRPC call to the execution backend belongs to: its first message says so, and what was read of it to
//! learn that is sent on before the rest.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use hyper::body::Incoming;
use par_model::CallError;

use crate::session::SessionKey;

const SERVICE: &str = "/pixell.python_agent.PythonAgent/";

/// The name of the session comes after the code, in all that we have met. What is longer goes home.
const MOST_READ: usize = 64 << 10;

/// The session that a call belongs to, and what was read of its body. None for a call that begins a session without a
/// name, or that is none of the execution backend.
pub(crate) async fn session(
    method: &str,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<(Option<SessionKey>, Option<Bytes>), CallError> {
    let Some(method) = method.strip_prefix(SERVICE) else {
        return Ok((None, None));
    };
    let field = match method {
        "Execute" | "StreamExecute" => 4,
        "GetSessionState" | "RetryWithPatch" => 1,
        _ => return Ok((None, None)),
    };
    if headers
        .get("grpc-encoding")
        .is_some_and(|how| how != "identity")
    {
        return Ok((Some(SessionKey::home()), None));
    }
    let mut read = BytesMut::new();
    let session = loop {
        match look(&read, field) {
            Look::Named(session) => break Some(session),
            Look::Unnamed => break None,
            Look::Unknown => break Some(SessionKey::home()),
            Look::More if read.len() >= MOST_READ => break Some(SessionKey::home()),
            Look::More => {}
        }
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        match frame.transpose() {
            // What follows data are trailers, which nobody sends with a request.
            Ok(Some(frame)) => read.extend(frame.into_data().unwrap_or_default()),
            Ok(None) => break None,
            Err(_) => return Err(CallError::Cancelled),
        }
    };
    Ok((session, (!read.is_empty()).then(|| read.freeze())))
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    Named(SessionKey),
    Unnamed,
    /// It is no message that we can read.
    Unknown,
    More,
}

/// Looks for a field of text in the beginning of a stream of messages. As in any reader of protobuf the last one counts;
/// nobody sends two, and whoever does only chooses among replicas.
fn look(stream: &[u8], wanted: u64) -> Look {
    let [compressed, a, b, c, d, message @ ..] = stream else {
        return Look::More;
    };
    if *compressed != 0 {
        return Look::Unknown;
    }
    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    let mut left = &message[..message.len().min(length)];
    let is_whole = message.len() >= length;
    let short = if is_whole { Look::Unknown } else { Look::More };
    while !left.is_empty() {
        let Some((tag, rest)) = varint(left) else {
            return short;
        };
        let taken = match tag & 7 {
            0 => varint(rest).map(|(_, rest)| (&[][..], rest)),
            1 => rest.split_at_checked(8),
            2 => varint(rest).and_then(|(length, rest)| {
                rest.split_at_checked(usize::try_from(length).unwrap_or(usize::MAX))
            }),
            5 => rest.split_at_checked(4),
            _ => return Look::Unknown,
        };
        let Some((value, rest)) = taken else {
            return short;
        };
        if tag == wanted << 3 | 2 {
            return match value {
                [] => Look::Unnamed,
                name => Look::Named(SessionKey::of(name)),
            };
        }
        left = rest;
    }
    if is_whole { Look::Unnamed } else { Look::More }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(fields: &[u8]) -> Vec<u8> {
        let length = u32::try_from(fields.len()).expect("short").to_be_bytes();
        [&[0], &length[..], fields].concat()
    }

    #[test]
    fn the_session_is_found_behind_code_and_files() {
        let whole = message(b"\x0a\x03x=1\x12\x02\x0a\x00\x1a\x01f\x22\x02s1\x28\x01\x30\x05");
        for end in 0..whole.len() {
            let seen = look(&whole[..end], 4);
            let expected = match end {
                0..21 => Look::More,
                _ => Look::Named(SessionKey::of(b"s1")),
            };
            assert_eq!(seen, expected, "{end}");
        }
        let more = [&whole[..], &whole[..]].concat();
        assert_eq!(look(&more, 4), Look::Named(SessionKey::of(b"s1")));
    }

    #[test]
    fn a_message_without_a_session_has_none_and_nonsense_is_not_read() {
        assert_eq!(look(&message(b""), 4), Look::Unnamed);
        assert_eq!(look(&message(b"\x0a\x03x=1"), 4), Look::Unnamed);
        assert_eq!(look(&message(b"\x22\x00"), 4), Look::Unnamed);
        assert_eq!(look(&message(b"\x0a\x7fx=1"), 4), Look::Unknown);
        assert_eq!(look(&message(b"\x0b"), 4), Look::Unknown);
        assert_eq!(look(b"\x01\0\0\0\0", 4), Look::Unknown);
    }

    proptest! {
        #[test]
        fn anything_is_looked_at_without_harm(bytes: Vec<u8>, field in 1_u64..5) {
            look(&bytes, field);
        }
    }
}
