"""The socketpair to the worker: bytes in, whole frames out."""

from __future__ import annotations

import os
from _thread import allocate_lock

# The C half of `socket`: the Python half costs three milliseconds of every start.
from _socket import socket

from par_harness.frames import HEADER, HEADER_SIZE, MAX_BODY, frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

READ_SIZE = 64 << 10


class ChannelBroken(Exception):
    """The worker sent what is not a frame."""


class Channel:
    """`data` from `at` on is what was read and not handled yet; both belong to the thread that reads."""

    def __init__(self, fd: int) -> None:
        self._socket = socket(fileno=fd)
        self._sending = allocate_lock()
        self.data = b""
        self.at = 0
        # Called when nothing can be sent, perhaps more than once.
        self.on_gone: Callable[[], None] = lambda: None
        # A forked child of the agent must never speak in its name, not even when it returns from a handler.
        os.register_at_fork(after_in_child=self.close)

    def fill(self) -> bool:
        """Reads what there is, and the rest of a frame that has begun; False when the worker is gone."""
        # A large body that has been handled must not stay while we wait for the next frame.
        self.data, self.at = self.data[self.at :], 0
        part = self._receive(READ_SIZE)
        if not part:
            return False
        self.data = self.data + part if self.data else part
        if len(self.data) >= HEADER_SIZE:
            missing = HEADER_SIZE + _checked_length(self.data) - len(self.data)
            if missing > 0:
                return self._fill_exactly(missing)
        return True

    def _fill_exactly(self, missing: int) -> bool:
        """A large frame comes in many parts; they are joined once."""
        parts = [self.data]
        while missing > 0:
            part = self._receive(min(missing, 1 << 20))
            if not part:
                return False
            parts.append(part)
            missing -= len(part)
        self.data = b"".join(parts)
        return True

    def _receive(self, most: int) -> bytes:
        try:
            return self._socket.recv(most)
        except OSError:
            self._end_if_forked()
            return b""

    def next_frame(self) -> tuple[int, int, bytes] | None:
        """Kind, id and body; None when the worker is gone. For the first frame, before the readers start."""
        while len(self.data) - self.at < HEADER_SIZE:
            if not self.fill():
                return None
        length, id, kind = HEADER.unpack_from(self.data, self.at)
        start = self.at + HEADER_SIZE
        self.at = start + length
        return kind, id, self.data[start : self.at]

    def send(self, frames: bytes) -> None:
        """Sends whole frames from any thread.

        `sendall` runs in C, so even an exception thrown into this thread from outside cannot tear a frame.
        """
        with self._sending:
            try:
                self._socket.sendall(frames)
                return
            except OSError:
                self._end_if_forked()
        self.on_gone()

    def send_frame(self, id: int, kind: int, body: bytes = b"") -> None:
        self.send(frame(id, kind, body))

    def close(self) -> None:
        self._socket.close()
        self._sending = allocate_lock()

    def _end_if_forked(self) -> None:
        """A forked child has no one to answer to."""
        if self._socket.fileno() < 0:
            os._exit(0)


def _checked_length(data: bytes) -> int:
    length: int = HEADER.unpack_from(data)[0]
    if length > MAX_BODY:
        raise ChannelBroken(f"a frame of {length} bytes is larger than the limit")
    return length
