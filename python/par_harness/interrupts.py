"""Throwing `CallCancelled` into a thread that runs a handler.

Python delivers such an exception between two instructions of the thread, so it can arrive late, but never after
`settle`: the thread that ends its call settles what was sent to it, under the lock under which it is sent.
"""

from __future__ import annotations

import ctypes

from par_harness.failures import CallCancelled


class Interrupt:
    __slots__ = ("_ident",)

    def __init__(self, ident: int) -> None:
        self._ident = ident

    def send(self) -> None:
        _throw(self._ident, CallCancelled)

    def settle(self) -> None:
        """Called by the interrupted thread: raises `CallCancelled` unless its handler already swallowed it."""
        _throw(self._ident, None)


def _throw(ident: int, exception: type[BaseException] | None) -> None:
    thrown = ctypes.py_object(exception) if exception is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), thrown)
