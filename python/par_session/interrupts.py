"""SIGINT from the worker ends the run that is active, and nothing else.

Python runs the handler in the main thread, between two instructions of whatever that is doing. So there are moments
in which nothing may be raised: outside runs, and while the main thread holds half of a frame.
"""

from __future__ import annotations

from _signal import SIGINT, signal
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


class RunInterrupted(KeyboardInterrupt):
    """Thrown into the code of a run. Libraries that wait know what Ctrl-C means."""

    __module__ = "builtins"  # as tracebacks show it


class Interrupts:
    def __init__(self) -> None:
        self._main = get_ident()
        self._armed = False
        self._held = False
        self._waiting = False

    def install(self) -> None:
        """Again before each run, as code may install its own."""
        signal(SIGINT, self._on_signal)

    def arm(self) -> None:
        self._armed = True

    def disarm(self) -> None:
        self._armed = False

    def hold(self) -> None:
        """Until `release`, an interrupt waits. Other threads than the main one are never interrupted."""
        if get_ident() == self._main:
            self._held = True

    def release(self) -> None:
        if get_ident() == self._main:
            self._held = False
            if self._waiting:
                self._waiting = False
                if self._armed:
                    raise RunInterrupted("the run was interrupted")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._waiting = True
        elif self._armed:
            raise RunInterrupted("the run was interrupted")
