"""The frame that ends a call well."""

from __future__ import annotations

from par_harness.frames import HEADER, MAX_BODY, RESULT
from par_harness.values import NotJson, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_pack_header = HEADER.pack


class Awaited:
    """What a handler returned that the event loop has to answer."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def discard(self) -> None:
        close = getattr(self.value, "close", None)
        if close is not None:
            close()


def result(id: int, value: Any) -> bytes:
    encoded = encode(value)
    if len(encoded) > MAX_BODY:
        raise NotJson(f"the answer is larger than {MAX_BODY >> 20} MiB: let the handler yield it in parts")
    return _pack_header(len(encoded), id, RESULT) + encoded
