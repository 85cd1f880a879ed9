"""What the forked copy does: it becomes a program with standard streams of its own, and never comes back."""

from __future__ import annotations

import os
import signal
import sys

from par_harness import outbound, output
from par_harness.failures import detail_of, traceback_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

    from par_harness.program_relay import Relay

# The parent's streams may hold text that the parent will write: they must be neither flushed nor collected here.
_parents_streams: list[Any] = []


def become_program(main: Callable[..., Any], request: int, answer: int, verdict: int, relay: Relay) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _take_streams(request, answer)
        outbound.carrier = relay
        code = _run(main, verdict)
    finally:
        _flush()
        os._exit(code)


def _take_streams(request: int, answer: int) -> None:
    os.dup2(request, 0)
    os.dup2(answer, 1)
    _parents_streams.extend((sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__))
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = open(  # type: ignore[misc]
        1, "w", encoding="utf-8", errors="surrogateescape", closefd=False
    )
    sys.stderr = sys.__stderr__ = output.standard_error()  # type: ignore[misc]


def _run(main: Callable[..., Any], verdict: int) -> int:
    """The exit code; the message of an exception goes to `verdict`."""
    try:
        pending = main()
        if hasattr(pending, "__await__"):
            import asyncio

            asyncio.run(_await(pending))
        return 0
    except SystemExit as exit:
        return _exit_code(exit)
    except BaseException as error:
        sys.stderr.write(traceback_of(error))
        os.write(verdict, detail_of(error).encode(errors="replace")[: 1 << 16])
        return 1


async def _await(pending: Any) -> None:
    await pending


def _exit_code(exit: SystemExit) -> int:
    if exit.code is None:
        return 0
    if isinstance(exit.code, int):
        return exit.code & 0xFF
    sys.stderr.write(f"{exit.code}\n")
    return 1


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # closed by the program, or its reader is gone
