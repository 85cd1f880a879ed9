"""What went wrong in a run, as the worker is told: one line, and a traceback of the session's code."""

from __future__ import annotations

import sys
from os import path

from par_session.interrupts import RunInterrupted
from par_session.reprs import cut, name_of
from par_session.sources import FILENAME, Sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

COMPILE, RAISED, INTERRUPTED, INPUT, MEMORY = "compile", "raised", "interrupted", "input", "memory"
OUR_FOLDER = path.dirname(__file__) + "/"
LONGEST_LINE = 4 << 10
LONGEST_TRACEBACK = 64 << 10


class Failure:
    def __init__(self, kind: str, line: str, traceback: str = "") -> None:
        self.kind = kind
        self.line = line
        self.traceback = traceback


def failure_of(error: BaseException, compiling: bool, sources: Sources) -> Failure:
    context = error.__context__
    if context is not None and _is_ours(context.__traceback__):
        error.__context__ = None  # an interrupt that came while we handled something
    kind = RAISED
    if isinstance(error, RunInterrupted):
        kind = INTERRUPTED
    elif compiling:
        kind = COMPILE
    elif isinstance(error, MemoryError):
        kind = MEMORY
    return Failure(kind, _line(error), _traceback(error, sources))


def _line(error: BaseException) -> str:
    name = name_of(type(error))
    try:
        text = " ".join(str(error).split("\n")).strip()
    except BaseException:
        text = "<its message cannot be shown>"
    return cut(f"{name}: {text}" if text else name, LONGEST_LINE)


def _traceback(error: BaseException, sources: Sources) -> str:
    sources.show()
    try:
        from traceback import format_exception

        text = "".join(format_exception(type(error), error, _of_the_session(error.__traceback__)))
    except BaseException as broken:
        # Not even what prints tracebacks is safe from the session's code.
        return f"{_line(error)} (its traceback cannot be shown: {name_of(type(broken))})\n"
    half = LONGEST_TRACEBACK // 2 - 8
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) > LONGEST_TRACEBACK:
        return encoded[:half].decode("utf-8", "ignore") + "\n…\n" + encoded[-half:].decode("utf-8", "ignore")
    return encoded.decode()


def _of_the_session(step: TracebackType | None) -> TracebackType | None:
    """From where the session's code begins, and without the frames of ours that it called."""
    while step is not None and not step.tb_frame.f_code.co_filename.startswith(FILENAME):
        step = step.tb_next
    last = step
    while last is not None:
        while _is_ours(last.tb_next):
            last.tb_next = last.tb_next.tb_next  # type: ignore[union-attr]
        last = last.tb_next
    return step


def _is_ours(step: TracebackType | None) -> bool:
    return step is not None and step.tb_frame.f_code.co_filename.startswith(OUR_FOLDER)


def print_uncaught(error: BaseException, sources: Sources) -> None:
    sys.stderr.write(_traceback(error, sources))
