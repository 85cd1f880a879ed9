"""The end of the process: calls are finished, then the agent's own clean-up runs, then we exit."""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread
from time import sleep

from par_harness import process
from par_harness.failures import log, logged_traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

# How long an agent may clean up when nobody is left to kill it.
PATIENCE_WITHOUT_WORKER = 5.0


class Stopping:
    """Told of every end of something slow, so that it need not look."""

    def __init__(self) -> None:
        self._begun = False
        self._lost = False
        self._losing = allocate_lock()
        self._in_progress: Callable[[], int] = lambda: 0
        self._clean_ups: list[Callable[[], Any]] = []
        self._ended = allocate_lock()

    def prepare(self, in_progress: Callable[[], int], clean_ups: list[Callable[[], Any]]) -> None:
        self._in_progress = in_progress
        self._clean_ups = clean_ups

    def something_ended(self) -> None:
        if self._begun:
            try:
                self._ended.release()
            except RuntimeError:
                pass  # it has not looked since the last end

    def begin(self) -> None:
        """The worker asked: how long it waits is its decision, so we finish what has begun."""
        if not self._begun:
            self._begun = True
            start_new_thread(self._finish, ())

    def begin_at_once(self) -> None:
        """The worker is gone, or the agent closed our channel: no answer would reach anybody."""
        with self._losing:
            if self._lost:
                return
            self._lost = True
        start_new_thread(_exit_after, (PATIENCE_WITHOUT_WORKER,))
        if not self._begun:
            self._begun = True
            log("par_harness: the channel to the worker is gone\n")
            start_new_thread(self._clean_up, (1,))

    def _finish(self) -> None:
        while self._in_progress():
            self._ended.acquire()
        self._clean_up(0)

    def _clean_up(self, exit_code: int) -> None:
        from atexit import _run_exitfuncs

        for clean_up in self._clean_ups:
            try:
                pending = clean_up()
                if hasattr(pending, "__await__"):
                    _await(pending)
            except BaseException as error:
                logged_traceback(error)
        _run_exitfuncs()
        process.flush_streams()
        os._exit(exit_code)


def _await(pending: Any) -> None:
    from asyncio import run

    async def awaited() -> None:
        await pending

    run(awaited())


def _exit_after(seconds: float) -> None:
    sleep(seconds)
    os._exit(1)
