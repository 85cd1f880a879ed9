"""Answers that come in parts: what a handler yields is sent at once, as far as the worker has granted credit."""

from __future__ import annotations

from _thread import allocate_lock

from par_harness.failures import CallCancelled
from par_harness.frames import CHUNK_MORE, HEADER_SIZE, INITIAL_CREDIT, MAX_CHUNK, chunk
from par_harness.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Protocol

    from par_harness.channel import Channel

    class Stream(Protocol):
        """Whoever the frames of one id concern besides its call. Called by the reading thread: must not wait."""

        def on_chunk(self, flags: int, body: bytes) -> None: ...
        def on_credit(self, amount: int) -> None: ...

        def on_cancel(self) -> bool:
            """True if this ends the call; if not, its handler has to be interrupted."""


class Streams:
    """The streams that are open, by id."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._open: dict[int, Stream] = {}

    def get(self, id: int) -> Stream | None:
        return self._open.get(id)

    def open(self, id: int, stream: Stream) -> None:
        self._open[id] = stream

    def close(self, id: int) -> Stream | None:
        return self._open.pop(id, None)

    def send_all(self, id: int, items: Iterator[Any]) -> None:
        """Sends what a generator yields, from the thread that runs it."""
        stream = ThreadStream()
        try:
            self.open(id, stream)
            for item in items:
                for part in chunks_of(id, encode(item)):
                    stream.wait_for_credit(part)
                    self._channel.send(part)
        finally:
            self.close(id)
            close = getattr(items, "close", None)
            if close is not None:
                close()


class Credit:
    """How far the sender may run ahead. The reading thread grants and only the sender takes, so neither needs a lock."""

    def __init__(self) -> None:
        self._granted = INITIAL_CREDIT
        self._taken = 0

    def covers(self, chunk_frame: bytes) -> bool:
        return self._granted - self._taken >= len(chunk_frame) - HEADER_SIZE

    def take(self, chunk_frame: bytes) -> None:
        self._taken += len(chunk_frame) - HEADER_SIZE

    def grant(self, amount: int) -> None:
        self._granted += amount


class ThreadStream:
    """The chunks that a thread sends."""

    def __init__(self) -> None:
        self._credit = Credit()
        self._cancelled = False
        self._changed = allocate_lock()
        self._changed.acquire()

    def wait_for_credit(self, chunk_frame: bytes) -> None:
        while not self._credit.covers(chunk_frame):
            if self._cancelled:
                raise CallCancelled
            self._changed.acquire()
        self._credit.take(chunk_frame)

    def on_credit(self, amount: int) -> None:
        self._credit.grant(amount)
        self._wake()

    def on_cancel(self) -> bool:
        self._cancelled = True
        self._wake()
        return False

    def on_chunk(self, flags: int, body: bytes) -> None:
        """A call has no body besides its own."""

    def _wake(self) -> None:
        try:
            self._changed.release()
        except RuntimeError:
            pass  # it is awake already


def chunks_of(id: int, item: bytes) -> list[bytes]:
    """One item of a generator, in as many chunks as it needs."""
    most = MAX_CHUNK - 1
    parts = [item[at : at + most] for at in range(0, len(item), most)] or [b""]
    return [chunk(id, CHUNK_MORE, part) for part in parts[:-1]] + [chunk(id, 0, parts[-1])]
