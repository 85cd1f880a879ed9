"""`progress(0.5, "half")`, a builtin of the session's code: sent if the worker has room for it, lost if not."""

from __future__ import annotations

from _json import encode_basestring as json_text
from _thread import allocate_lock
from os import getpid

from par_harness.frames import CREDIT, HEADER_SIZE, INITIAL_CREDIT, chunk, credit_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from par_session.channel import Frame, SessionChannel
    from par_session.interrupts import Interrupts

LONGEST_MESSAGE = 8 << 10
NO_RUN = 0


class Progress:
    def __init__(self, channel: SessionChannel, interrupts: Interrupts) -> None:
        self._channel = channel
        self._interrupts = interrupts
        self._process = getpid()
        # Guards what follows, and the channel's reading end while a run is open.
        self._busy = allocate_lock()
        self._run = NO_RUN
        self._credit = 0

    def open(self, run: int) -> None:
        self._credit = INITIAL_CREDIT
        self._run = run

    def close(self) -> None:
        """From here on the main thread reads again."""
        with self._busy:
            self._run = NO_RUN

    def progress(self, value: float | None = None, message: str = "") -> None:
        """Tells whoever waits for this run how far it is. Never waits; what nobody reads in time is lost."""
        body = b'{"value": %b, "message": %b}' % (_number(value), _text(message))
        if getpid() != self._process:
            return  # a forked child has nobody to tell
        self._interrupts.hold()
        try:
            if self._busy.acquire(False):
                try:
                    self._send(body)
                finally:
                    self._busy.release()
        finally:
            self._interrupts.release()

    def _send(self, body: bytes) -> None:
        if self._run == NO_RUN:
            return
        self._channel.take_arrived(self._take_credit)
        frame = chunk(self._run, 0, body)
        cost = len(frame) - HEADER_SIZE
        if cost <= self._credit and self._channel.send_at_once(frame):
            self._credit -= cost

    def _take_credit(self, frame: Frame) -> bool:
        kind, id, body = frame
        if kind != CREDIT:
            return False
        if id == self._run:
            self._credit += credit_of(body)
        return True


def _number(value: float | None) -> bytes:
    if value is None:
        return b"null"
    number = float(value)
    # JSON has neither infinity nor not-a-number.
    return repr(number).encode() if number - number == 0.0 else b"null"


def _text(message: str) -> bytes:
    text = str(message).encode("utf-8", "replace")[:LONGEST_MESSAGE].decode("utf-8", "ignore")
    return json_text(text).encode()
