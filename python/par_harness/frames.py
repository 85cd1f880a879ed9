"""Frames as bytes; `crates/par-protocol/src/frame.rs` says what they mean."""

from __future__ import annotations

from struct import Struct

LOAD, READY, CALL, HTTP, CHUNK, RESULT, ERROR, CANCEL, CREDIT, OUTBOUND, LOG, STOP, SERVES, PING, PONG = range(1, 16)

HEADER = Struct(">IIB")
HEADER_SIZE = HEADER.size
MAX_BODY = (64 << 20) + (64 << 10)
MAX_CHUNK = 64 << 10
INITIAL_CREDIT = 256 << 10
OUTBOUND_BIT = 1 << 31

CHUNK_LAST = 1
CHUNK_TEXT = 2
CHUNK_TRAILERS = 4
CHUNK_MORE = 8

_pack_header = HEADER.pack
_u32 = Struct(">I")
_u16 = Struct(">H")


def frame(id: int, kind: int, body: bytes = b"") -> bytes:
    return _pack_header(len(body), id, kind) + body


def chunk(id: int, flags: int, body: bytes = b"") -> bytes:
    return _pack_header(len(body) + 1, id, CHUNK) + bytes((flags,)) + body


def credit(id: int, amount: int) -> bytes:
    return _pack_header(4, id, CREDIT) + _u32.pack(amount)


def credit_of(body: bytes) -> int:
    amount: int = _u32.unpack(body)[0]
    return amount


def with_head(head: bytes, rest: bytes) -> bytes:
    """`u16` length, head, rest: the body of `call` and of `outbound`."""
    return _u16.pack(len(head)) + head + rest


def status_and_body(body: bytes) -> tuple[int, bytes]:
    """The answer to an outbound call."""
    return _u16.unpack_from(body)[0], body[2:]
