"""grpcio and protobuf, imported when they are used, and the ways to wait for what runs on a loop."""

from __future__ import annotations

import os
from asyncio import get_running_loop, run_coroutine_threadsafe, wrap_future
from logging import LogRecord, getLogger

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any, Awaitable, Coroutine, Generator

LARGEST_MESSAGE = 64 << 20
OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
)

_used_by = 0


def used_grpc() -> Any:
    """The module, for a process that will use it from now on.

    Imported, it survives a fork; used, it does not: its threads are missing in the child, which would wait for ever.
    """
    global _used_by
    grpc = imported_grpc()
    if _used_by not in (0, os.getpid()):
        raise RuntimeError(
            "this process was forked from one that used gRPC, so it cannot use gRPC itself:"
            " let a function instead of main() do it, or make a call with JSON"
        )
    if _used_by == 0:
        getLogger("asyncio").addFilter(_is_news)
    _used_by = os.getpid()
    return grpc


def _is_news(record: LogRecord) -> bool:
    """In some versions of grpcio, the loops of several threads race for one wake-up; to be late is no error."""
    late = record.exc_info is not None and record.exc_info[0] is BlockingIOError
    return not (late and "PollerCompletionQueue" in record.getMessage())


def imported_grpc() -> Any:
    try:
        import grpc
        import grpc.aio
    except ImportError as error:
        raise ImportError(f"{error}; gRPC needs grpcio: add it to the agent's requirements", name="grpc") from error
    return grpc


def protobuf(module: str) -> Any:
    """A module of `google.protobuf`."""
    from importlib import import_module

    try:
        return import_module(f"google.protobuf.{module}")
    except ImportError as error:
        raise ImportError(
            f"{error}; dicts as messages need protobuf: add it to the agent's requirements", name="google.protobuf"
        ) from error


class Done:
    """The outcome of what was waited for already; it may be awaited nevertheless."""

    def __init__(self, outcome: Any = None) -> None:
        self._outcome = outcome

    def __await__(self) -> Generator[None, None, Any]:
        return self._outcome
        yield


def on_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
    """Runs `work` on `loop`: over when this returns, or where a loop runs already, begun and to be awaited."""
    running = running_loop()
    if running is None:
        return Done(run_coroutine_threadsafe(work, loop).result())
    if running is not loop:
        return wrap_future(run_coroutine_threadsafe(work, loop))
    task = loop.create_task(work)
    _begun.add(task)
    task.add_done_callback(_begun.discard)
    return task


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return get_running_loop()
    except RuntimeError:
        return None


# A loop forgets tasks that nobody awaits.
_begun: set[asyncio.Task[Any]] = set()
