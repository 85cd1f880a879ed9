"""What went wrong, as the worker is told and as the log shows it."""

from __future__ import annotations

import os
import sys

from par_harness.frames import ERROR, frame
from par_harness.values import BadJson, NotJson, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

OUR_FOLDER = os.path.dirname(__file__) + os.sep

# Characters of a message or a traceback; what raises may say gigabytes.
LONGEST_TEXT = 64 << 10

LOAD = "load"
BAD_JSON = "bad_json"
UNKNOWN_EXPORT = "unknown_export"
RAISED = "raised"
NOT_JSON = "not_json"
CANCELLED = "cancelled"


class UnknownExport(Exception):
    """Its text is the name that was asked for; the worker has the words."""


class CallCancelled(BaseException):
    """Thrown into the handler whose caller has left."""


def failure(id: int, kind: str, detail: str, traceback: str | None = None) -> bytes:
    fields = {"kind": kind, "detail": _shortened(detail)}
    if traceback is not None:
        fields["traceback"] = traceback
    return frame(id, ERROR, encode(fields))


def failure_of(id: int, error: BaseException) -> bytes:
    """The frame for what ended a call; what the agent's own code raised is logged as well."""
    if isinstance(error, CallCancelled):
        return cancelled(id)
    if isinstance(error, BadJson):
        return failure(id, BAD_JSON, str(error))
    if isinstance(error, UnknownExport):
        return failure(id, UNKNOWN_EXPORT, str(error))
    if isinstance(error, NotJson):
        return failure(id, NOT_JSON, str(error))
    return failure(id, RAISED, detail_of(error), logged_traceback(error))


def cancelled(id: int) -> bytes:
    return failure(id, CANCELLED, "the call was cancelled")


def detail_of(error: BaseException) -> str:
    """The message alone, as callers have always got it; the class where that says nothing."""
    text = _text_of(error)
    if not isinstance(error, Exception):
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text or type(error).__name__


def logged_traceback(error: BaseException) -> str:
    text = traceback_of(error)
    log(text)
    return text


def traceback_of(error: BaseException) -> str:
    """The agent's frames; ours above them would only hide where to look."""
    from traceback import format_exception

    step = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename.startswith(OUR_FOLDER):
        step = step.tb_next
    try:
        return _shortened("".join(format_exception(type(error), error, step)))
    except Exception as broken:  # its __str__ may raise anything
        return f"{type(error).__name__} (its traceback cannot be shown: {type(broken).__name__})\n"


def give_up(error: BaseException) -> NoReturn:
    """Ends the process: the worker sent what cannot be understood, or we are wrong. Mute would be worse than dead."""
    from traceback import format_exception

    log("".join(format_exception(type(error), error, error.__traceback__)))
    os._exit(1)


def log(text: str) -> None:
    """One write, so that lines of other threads cannot come between."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        pass  # the agent closed or replaced its standard error: nobody is left to tell


def _shortened(text: str) -> str:
    half = LONGEST_TEXT // 2
    return text if len(text) <= LONGEST_TEXT else f"{text[:half]}\n…\n{text[-half:]}"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""
