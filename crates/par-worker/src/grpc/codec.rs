//! Protobuf whose fields are counted before they are made: an empty one is two bytes, and takes many times as much memory.

use std::marker::PhantomData;

use bytes::{Buf as _, Bytes};
use par_protocol::protobuf::agent::{ActionRequest, Empty};
use par_protocol::protobuf::python_agent::{ExecuteRequest, RetryRequest, SessionStateRequest};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

/// In one request.
const MOST_FIELDS: usize = 200_000;

/// A request of one of the runtime's own services.
pub(super) trait Asked: Message + Default + 'static {
    /// The field that is a message in which fields repeat.
    const DEEP: Option<u32> = None;
}

impl Asked for ActionRequest {}
impl Asked for Empty {}
impl Asked for ExecuteRequest {}
impl Asked for SessionStateRequest {}
impl Asked for RetryRequest {
    const DEEP: Option<u32> = Some(2);
}

pub(super) struct Counting<A, Q>(PhantomData<(A, Q)>);

pub(super) struct CountingDecoder<Q>(PhantomData<Q>);

impl<A, Q> Default for Counting<A, Q> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A: Message + Default + 'static, Q: Asked> Codec for Counting<A, Q> {
    type Encode = A;
    type Decode = Q;
    type Encoder = ProstEncoder<A>;
    type Decoder = CountingDecoder<Q>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<A, A>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        CountingDecoder(PhantomData)
    }
}

impl<Q: Asked> Decoder for CountingDecoder<Q> {
    type Item = Q;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Q>, Status> {
        read(buffer.copy_to_bytes(buffer.remaining())).map(Some)
    }
}

fn read<Q: Asked>(message: Bytes) -> Result<Q, Status> {
    let malformed = || Status::internal("the message is no Protobuf");
    if fields(message.clone(), Q::DEEP).ok_or_else(malformed)? > MOST_FIELDS {
        let words = format!("the message has more than {MOST_FIELDS} fields");
        return Err(Status::invalid_argument(words));
    }
    let decoded = Q::decode(message);
    decoded.map_err(|error| Status::internal(format!("the message is no Protobuf: {error}")))
}

/// As far as they are few enough. None for what is no Protobuf.
fn fields(mut rest: Bytes, deep: Option<u32>) -> Option<usize> {
    let mut count = 0;
    while rest.has_remaining() && count <= MOST_FIELDS {
        let (tag, kind) = decode_key(&mut rest).ok()?;
        count += 1;
        if deep == Some(tag) && kind == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            if length > rest.remaining() {
                return None;
            }
            count += fields(rest.split_to(length), None)?;
        } else {
            skip_field(kind, tag, &mut rest, DecodeContext::default()).ok()?;
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use par_protocol::protobuf::python_agent::CodePatch;
    use par_protocol::protobuf::python_agent::code_patch::LineEdit;
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;

    fn told<Q: Asked>(message: impl Into<Bytes>) -> Code {
        read::<Q>(message.into()).map_or_else(|status| status.code(), |_| Code::Ok)
    }

    #[test]
    fn empty_fields_that_would_be_large_are_not_made() {
        let edits = |count| RetryRequest {
            session_id: "s".to_owned(),
            patch: Some(CodePatch {
                edits: vec![LineEdit::default(); count],
            }),
        };
        assert_eq!(told::<RetryRequest>(edits(1000).encode_to_vec()), Code::Ok);
        let many = edits(MOST_FIELDS + 1).encode_to_vec();
        assert_eq!(told::<RetryRequest>(many), Code::InvalidArgument);
        let files = ExecuteRequest {
            files: vec![vec![].into(); MOST_FIELDS + 1],
            ..ExecuteRequest::default()
        };
        let many = files.encode_to_vec();
        assert_eq!(told::<ExecuteRequest>(many), Code::InvalidArgument);
    }

    #[test]
    fn long_code_is_one_field() {
        let code = " ".repeat(MOST_FIELDS * 3);
        let long = ExecuteRequest {
            code,
            ..ExecuteRequest::default()
        };
        assert_eq!(told::<ExecuteRequest>(long.encode_to_vec()), Code::Ok);
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        assert_eq!(told::<RetryRequest>(&b"\x12\x05\x0a"[..]), Code::Internal);
        assert_eq!(told::<Empty>(&b"\x0a"[..]), Code::Internal);
    }

    proptest! {
        #[test]
        fn it_takes_whatever_prost_takes(bytes: Vec<u8>) {
            let prost = RetryRequest::decode(&bytes[..]).is_ok();
            prop_assert_eq!(told::<RetryRequest>(bytes) == Code::Ok, prost);
        }
    }
}
