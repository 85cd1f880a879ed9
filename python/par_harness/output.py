"""What the agent prints, with the call that printed it.

The text streams stay those of the standard library. Below them, instead of a `BufferedWriter`, is one that knows on whose
behalf it is written to, and puts a mark before and after what a call wrote:

    \\x1e mark : call \\x1f  text  \\x1e mark : 0 \\x1f

What C code and child processes write has no marks, and is nobody's in particular. The worker takes the marks away.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock
from io import BufferedIOBase, FileIO, TextIOWrapper

from par_harness.current import current_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What is written without a flush waits until it is so much, as it would in a `BufferedWriter`.
KEPT_BYTES = 8 << 10

_mark: str | None = None


def mark(word: str) -> None:
    """From now on what calls print is marked. `word` is known to the worker and to nobody else."""
    global _mark
    _mark = word
    for fd, name in ((1, "stdout"), (2, "stderr")):
        getattr(sys, name).flush()
        marked = _text(MarkedOutput(_file(fd, f"<{name}>"), word))
        setattr(sys, name, marked)
        setattr(sys, f"__{name}__", marked)


def standard_error() -> Any:
    """A stream of its own on descriptor 2, for a forked program."""
    if _mark is None:
        return open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    return _text(MarkedOutput(_file(2, "<stderr>"), _mark))


def _file(fd: int, name: str) -> FileIO:
    file = FileIO(fd, "w", closefd=False)
    file.name = name  # type: ignore[misc]  # as the interpreter calls it
    return file


def _text(output: MarkedOutput) -> TextIOWrapper:
    return TextIOWrapper(output, encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[arg-type]


class MarkedOutput(BufferedIOBase):
    """Keeps what one call writes until it is flushed, is a lot, or another call writes."""

    def __init__(self, raw: FileIO, mark: str) -> None:
        self.raw = raw
        self._before = f"\x1e{mark}:".encode()
        self._after = f"\x1e{mark}:0\x1f".encode()
        self._parts: list[bytes] = []
        self._size = 0
        self._owner = 0
        # A signal handler may print while its thread prints.
        self._lock = RLock()
        os.register_at_fork(after_in_child=self._begin_anew)

    def write(self, data: Any) -> int:
        part = data if type(data) is bytes else bytes(memoryview(data))
        owner = current_call.get()
        with self._lock:
            if owner != self._owner:
                if self._parts:
                    self._send()
                self._owner = owner
            self._parts.append(part)
            self._size += len(part)
            if self._size >= KEPT_BYTES:
                self._send()
        return len(part)

    def flush(self) -> None:
        if self._parts:
            with self._lock:
                self._send()

    def _send(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        if self._owner:
            parts = [self._before, b"%d\x1f" % self._owner, *parts, self._after]
        data = memoryview(b"".join(parts))
        while data:
            written = self.raw.write(data)
            if written is None:
                raise BlockingIOError("the agent's output takes nothing now")
            data = data[written:]

    def _begin_anew(self) -> None:
        """What the parent has not sent yet, it sends; and another thread of it may have been writing."""
        self._lock = RLock()
        self._parts, self._size = [], 0

    # What there is to know of the file

    def fileno(self) -> int:
        return self.raw.fileno()

    def isatty(self) -> bool:
        return self.raw.isatty()

    def writable(self) -> bool:
        return True

    def detach(self) -> FileIO:  # type: ignore[override]
        self.flush()
        return self.raw

    @property
    def name(self) -> Any:
        return self.raw.name

    @property
    def mode(self) -> str:
        return self.raw.mode
