"""The session's channel: it also looks for frames, and sends, without ever waiting."""

from __future__ import annotations

from _socket import MSG_DONTWAIT

from par_harness.channel import READ_SIZE, Channel
from par_harness.frames import HEADER, HEADER_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    Frame = tuple[int, int, bytes]

# Frames and bytes that arrived during a run and are for later; beyond these the worker's sending waits.
MOST_KEPT = 16
MOST_BYTES = 1 << 20


class SessionChannel(Channel):
    """The main thread reads between runs; during a run whoever sends progress does."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._kept: list[Frame] = []

    def next_frame(self) -> Frame | None:
        """Kind, id and body; None when the worker is gone."""
        if self._kept:
            return self._kept.pop(0)
        while True:
            frame = self._whole_frame()
            if frame is not None or not self.fill():
                return frame

    def take_arrived(self, wanted: Callable[[Frame], bool]) -> None:
        """Hands what has arrived to `wanted`, and keeps what it refuses for `next_frame`."""
        if len(self._kept) >= MOST_KEPT or len(self.data) - self.at > MOST_BYTES:
            return
        try:
            part = self._socket.recv(READ_SIZE, MSG_DONTWAIT)
        except OSError:
            return  # nothing has arrived, or the worker is gone, which `next_frame` will see
        self.data, self.at = self.data[self.at :] + part, 0
        while True:
            frame = self._whole_frame()
            if frame is None:
                return
            if not wanted(frame):
                self._kept.append(frame)

    def send_at_once(self, frame: bytes) -> bool:
        """Sends a small frame unless that would have to wait."""
        with self._sending:
            try:
                # To a socket of this kind, the kernel takes a piece of this size whole or not at all.
                sent = self._socket.send(frame, MSG_DONTWAIT)
                if sent < len(frame):
                    self._socket.sendall(frame[sent:])
                return True
            except OSError:
                return False

    def _whole_frame(self) -> Frame | None:
        if len(self.data) - self.at < HEADER_SIZE:
            return None
        length, id, kind = HEADER.unpack_from(self.data, self.at)
        start = self.at + HEADER_SIZE
        if start + length > len(self.data):
            return None
        self.at = start + length
        return kind, id, self.data[start : self.at]
