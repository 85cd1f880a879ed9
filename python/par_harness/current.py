"""On whose behalf code runs: the id of the call, in threads and in tasks alike."""

from __future__ import annotations

from contextvars import ContextVar

current_call: ContextVar[int] = ContextVar("par_current_call", default=0)
