"""What this process is before the agent's code runs in it: its channel, its standard streams, its builtins."""

from __future__ import annotations

import os
import sys

# High, so that an agent that closes or counts low descriptors does not meet it; below 1024 the kernel's table stays
# small. The lower one is for a limit on open files that is lower still.
CHANNEL_FDS = (1000, 200, 3)


def take_channel() -> int:
    """Moves the channel away from standard input, where the agent's code and its children would find it."""
    fd = _duplicate_high(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return fd


def _duplicate_high(fd: int) -> int:
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    for at_least in CHANNEL_FDS:
        try:
            return fcntl(fd, F_DUPFD_CLOEXEC, at_least)
        except OSError:
            pass  # the limit on open files is below this number
    return os.dup(fd)


def settle() -> None:
    """Gives the agent's code the interpreter that it would find in a program of its own."""
    import builtins
    import faulthandler
    import threading  # noqa: F401 – before 3.13, the thread that imports it first is taken for the main one
    from _signal import SIGINT, SIGUSR2, signal  # type: ignore[import-not-found]  # `signal` itself imports enum machinery
    from types import ModuleType

    from _sitebuiltins import Quitter

    for stream in (sys.stdout, sys.stderr):
        # `-I` ignores PYTHONUNBUFFERED, and the locale may be C.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    for name in ("exit", "quit"):  # `site` would have made them
        setattr(builtins, name, Quitter(name, "Ctrl-D (i.e. EOF)"))
    # Ctrl-C in the terminal is the worker's business; it ends us with `stop`. Not ignored: children would inherit that.
    signal(SIGINT, lambda _signal, _frame: None)
    # How the worker asks where an agent hangs; it needs no interpreter, so it works when nothing else does.
    faulthandler.register(SIGUSR2, file=2, all_threads=True)
    sys.argv = [""]
    # Threads that compute give up the interpreter after a millisecond, so that none can hold up the reading.
    sys.setswitchinterval(0.001)
    sys.modules["__main__"] = ModuleType("__main__")


def flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # closed or replaced by the agent
