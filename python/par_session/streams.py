"""The standard streams as every run finds them, whatever an earlier one did to them."""

from __future__ import annotations

import sys
from _io import FileIO, TextIOWrapper
from fcntl import F_DUPFD_CLOEXEC, fcntl
from os import dup2, set_blocking

from par_harness.process import CHANNEL_FDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

NAMES = ("<stdin>", "<stdout>", "<stderr>")
ENCODING = "utf-8"
ERRORS = ("surrogateescape", "backslashreplace", "backslashreplace")
ATTRIBUTES = ("stdin", "stdout", "stderr")


class Streams:
    def __init__(self) -> None:
        # Where code that closes or redirects 0, 1 and 2 does not find them.
        self._kept = [_duplicate_high(fd) for fd in range(3)]
        self._streams: list[TextIO] = []
        for fd in range(3):
            self._streams.append(_opened(fd))
        self._install()

    def set_up(self) -> None:
        """Before a run."""
        broken = [fd for fd, stream in enumerate(self._streams) if not _is_as_opened(stream, fd)]
        if broken:
            self._restore_descriptors()
        for fd in broken:
            try:
                self._streams[fd] = _opened(fd)
            except OSError:
                pass  # the descriptor and our duplicate are gone: nothing is left to print to
        # A stream of the code's own goes first: it may close its descriptor as it goes.
        self._install()
        self._restore_descriptors()

    def flush(self) -> None:
        """After a run: what the code has printed is on its way before the result is."""
        for attribute in ATTRIBUTES[1:]:
            try:
                getattr(sys, attribute).flush()
            except BaseException:
                pass  # closed, gone, or the code's own

    def _install(self) -> None:
        for attribute, stream in zip(ATTRIBUTES, self._streams):
            setattr(sys, attribute, stream)
            setattr(sys, f"__{attribute}__", stream)

    def _restore_descriptors(self) -> None:
        for fd, kept in enumerate(self._kept):
            try:
                dup2(kept, fd)
                if fd:
                    set_blocking(fd, True)
            except OSError:
                self._keep_again(fd)

    def _keep_again(self, fd: int) -> None:
        """The code has closed our duplicate; the descriptor itself may still be good."""
        try:
            self._kept[fd] = _duplicate_high(fd)
        except OSError:
            pass  # it has closed both: nothing is left to print to


def _is_as_opened(stream: TextIO, fd: int) -> bool:
    try:
        if stream.closed or stream.encoding != ENCODING or stream.errors != ERRORS[fd]:
            return False
        return fd == 0 or stream.write_through  # type: ignore[attr-defined,no-any-return]
    except ValueError:
        return False  # its buffer was detached


def _opened(fd: int) -> TextIO:
    """Unbuffered, as with `python -u`: what is printed is seen at once, with or without an end of line."""
    raw = FileIO(fd, "w" if fd else "r", closefd=False)
    raw.name = NAMES[fd]
    if not fd:
        from _io import BufferedReader

        return TextIOWrapper(BufferedReader(raw), encoding=ENCODING, errors=ERRORS[fd])
    return TextIOWrapper(raw, encoding=ENCODING, errors=ERRORS[fd], write_through=True)  # type: ignore[arg-type]


def _duplicate_high(fd: int) -> int:
    for at_least in CHANNEL_FDS:
        try:
            return fcntl(fd, F_DUPFD_CLOEXEC, at_least)
        except OSError:
            pass  # the limit on open files is below this number, or `fd` is closed
    raise OSError(f"descriptor {fd} cannot be kept")
