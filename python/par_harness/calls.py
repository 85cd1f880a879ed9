"""One call, from its frame to the frame that answers it."""

from __future__ import annotations

from par_harness.answers import Awaited, result
from par_harness.current import current_call
from par_harness.failures import UnknownExport, failure_of
from par_harness.frames import RESULT, frame
from par_harness.values import BadJson, decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from par_harness.streams import Streams

    Handler = Callable[[Any], Any]

# Answers that need no second look.
_VALUES = frozenset((dict, list, str, int, float, bool, type(None), tuple))


class Calls:
    def __init__(self, handlers: dict[str, Handler], streams: Streams) -> None:
        self._handlers = {name.encode(): handler for name, handler in handlers.items()}
        self._streams = streams

    def answer(self, id: int, data: bytes, start: int, end: int) -> bytes | Awaited:
        """The frame that ends the call, or what the event loop has to answer."""
        try:
            at = start + 2 + (data[start] << 8 | data[start + 1])
            name = data[start + 2 : at]
            handler = self._handlers.get(name)
            if handler is None:
                raise UnknownExport(name.decode(errors="replace"))
            body = decode(_text(data[at:end])) if end > at else {}
            current_call.set(id)
            value = handler(body)
            if type(value) not in _VALUES:
                if hasattr(value, "__await__") or hasattr(value, "__anext__"):
                    return Awaited(value)
                if hasattr(value, "__next__"):
                    self._streams.send_all(id, value)
                    return frame(id, RESULT)
            return result(id, value)
        except BaseException as error:
            return failure_of(id, error)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadJson(f"not UTF-8 at byte {error.start}") from error
