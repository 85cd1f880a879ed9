"""MessagePack without extension types: a strict decoder, and an encoder for what has an exact form."""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

MAX_DEPTH = 64
LEAST_INT, MOST_INT = -(1 << 63), (1 << 64) - 1


class BadMessage(Exception):
    """The bytes are not one MessagePack value; the text says where."""


class NotMessage(Exception):
    """The value has no exact MessagePack form."""


def encode(value: Any) -> bytes:
    out = bytearray()
    _encode(out, value, 0)
    return bytes(out)


def decode(data: bytes) -> Any:
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise BadMessage(f"the value ends at byte {reader.at} of {len(data)}")
    return value


# Encoding

_u8, _u16, _u32, _u64 = (Struct(">B" + code).pack for code in "BHIQ")
_i8, _i16, _i32, _i64 = (Struct(">B" + code).pack for code in "bhiq")
_f64 = Struct(">Bd").pack
_SMALL = [bytes((number,)) for number in range(0x80)]
NIL, FALSE, TRUE = b"\xc0", b"\xc2", b"\xc3"


def of_int(value: int) -> bytes:
    if value >= 0:
        if value < 0x80:
            return _SMALL[value]
        if value <= 0xFF:
            return _u8(0xCC, value)
        if value <= 0xFFFF:
            return _u16(0xCD, value)
        if value <= 0xFFFFFFFF:
            return _u32(0xCE, value)
        if value <= MOST_INT:
            return _u64(0xCF, value)
    elif value >= -0x20:
        return bytes((0x100 + value,))
    elif value >= -0x80:
        return _i8(0xD0, value)
    elif value >= -0x8000:
        return _i16(0xD1, value)
    elif value >= -0x80000000:
        return _i32(0xD2, value)
    elif value >= LEAST_INT:
        return _i64(0xD3, value)
    raise NotMessage("an integer of more than 64 bits")


def of_float(value: float) -> bytes:
    return _f64(0xCB, value)


def of_str(value: str) -> bytes:
    try:
        text = value.encode()
    except UnicodeEncodeError:
        raise NotMessage("text with a lone surrogate") from None
    size = len(text)
    if size < 0x20:
        return bytes((0xA0 | size,)) + text
    return _sized(size, 0xD9, 0xDA, 0xDB) + text


def of_bytes(value: bytes) -> bytes:
    return _sized(len(value), 0xC4, 0xC5, 0xC6) + value


def array_head(size: int) -> bytes:
    return bytes((0x90 | size,)) if size < 0x10 else _sized(size, None, 0xDC, 0xDD)


def map_head(size: int) -> bytes:
    return bytes((0x80 | size,)) if size < 0x10 else _sized(size, None, 0xDE, 0xDF)


def _sized(size: int, tag8: int | None, tag16: int, tag32: int) -> bytes:
    if size <= 0xFF and tag8 is not None:
        return _u8(tag8, size)
    if size <= 0xFFFF:
        return _u16(tag16, size)
    if size <= 0xFFFFFFFF:
        return _u32(tag32, size)
    raise NotMessage("more than 4 GiB in one value")


def _encode(out: bytearray, value: Any, depth: int) -> None:
    kind = type(value)
    if kind in OF_SCALAR:
        out += OF_SCALAR[kind](value)
    elif depth == MAX_DEPTH:
        raise NotMessage(f"more than {MAX_DEPTH} containers in each other")
    elif kind is list:
        out += array_head(len(value))
        for item in value:
            _encode(out, item, depth + 1)
    elif kind is dict:
        out += map_head(len(value))
        for key, item in value.items():
            _encode(out, key, depth + 1)
            _encode(out, item, depth + 1)
    else:
        raise NotMessage(f"a value of type {kind.__name__}")


OF_SCALAR: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: NIL,
    bool: lambda value: TRUE if value else FALSE,
    int: of_int,
    float: of_float,
    str: of_str,
    bytes: of_bytes,
}


# Decoding


class _Reader:
    """`at` is the first byte that was not read yet."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def value(self, depth: int) -> Any:
        at = self.at
        tag = self.take(1)[0]
        if tag < 0x80:
            return tag
        if tag < 0x90:
            return self.map(tag & 0x0F, depth)
        if tag < 0xA0:
            return self.array(tag & 0x0F, depth)
        if tag < 0xC0:
            return self.text(tag & 0x1F)
        if tag >= 0xE0:
            return tag - 0x100
        constant = _CONSTANTS.get(tag, self)
        if constant is not self:
            return constant
        if tag in _NUMBERS:
            return self.number(_NUMBERS[tag])
        if tag in _SIZED:
            read, size = _SIZED[tag]
            return read(self, self.number(size), depth)
        raise BadMessage(f"byte {at}, 0x{tag:02x}, begins no value that is known here")

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise BadMessage(f"the value is cut off: it needs {end - len(self.data)} bytes or more after byte {len(self.data)}")
        part = self.data[self.at : end]
        self.at = end
        return part

    def number(self, layout: Struct) -> Any:
        return layout.unpack(self.take(layout.size))[0]

    def text(self, size: int) -> str:
        at = self.at
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise BadMessage(f"the text at byte {at} is not UTF-8: {error.reason}") from None

    def array(self, size: int, depth: int) -> list[Any]:
        self.enter(size, depth)
        return [self.value(depth + 1) for _ in range(size)]

    def map(self, size: int, depth: int) -> dict[Any, Any]:
        self.enter(2 * size, depth)
        found: dict[Any, Any] = {}
        for _ in range(size):
            at = self.at
            key = self.value(depth + 1)
            if type(key) in (list, dict):
                raise BadMessage(f"the key at byte {at} is a container")
            if key in found:
                raise BadMessage(f"the key at byte {at} equals an earlier one")
            found[key] = self.value(depth + 1)
        return found

    def enter(self, items: int, depth: int) -> None:
        """Every item takes a byte, so a size that cannot be true is refused before anything is made of it."""
        if depth == MAX_DEPTH:
            raise BadMessage(f"more than {MAX_DEPTH} containers are in each other at byte {self.at}")
        if items > len(self.data) - self.at:
            raise BadMessage(f"the value is cut off: {items} items are said to follow byte {self.at} of {len(self.data)}")


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_U8, _U16, _U32 = Struct(">B"), Struct(">H"), Struct(">I")
_NUMBERS = {
    0xCA: Struct(">f"),
    0xCB: Struct(">d"),
    0xCC: _U8,
    0xCD: _U16,
    0xCE: _U32,
    0xCF: Struct(">Q"),
    0xD0: Struct(">b"),
    0xD1: Struct(">h"),
    0xD2: Struct(">i"),
    0xD3: Struct(">q"),
}


def _bytes(reader: _Reader, size: int, depth: int) -> bytes:
    return reader.take(size)


def _text(reader: _Reader, size: int, depth: int) -> str:
    return reader.text(size)


_SIZED: dict[int, tuple[Callable[[_Reader, int, int], Any], Struct]] = {
    0xC4: (_bytes, _U8),
    0xC5: (_bytes, _U16),
    0xC6: (_bytes, _U32),
    0xD9: (_text, _U8),
    0xDA: (_text, _U16),
    0xDB: (_text, _U32),
    0xDC: (_Reader.array, _U16),
    0xDD: (_Reader.array, _U32),
    0xDE: (_Reader.map, _U16),
    0xDF: (_Reader.map, _U32),
}
