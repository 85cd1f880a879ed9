"""Where a gRPC call to another agent goes, and the connections that are kept for the next one.

Inside the runtime every call leaves through the worker's door, whatever its port: the worker knows whose door it is,
and finds the other agent by its id. A port that was told once may belong to another agent by now, an id never does.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

from pixell_agent_runtime.grpc_package import OPTIONS, Done, on_loop, running_loop, used_grpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Awaitable

    Metadata = tuple[tuple[str, Any], ...]

AGENT = "x-agent-id"
PARENT = "x-par-parent"

# A door that is shut for a moment shall not stay so for minutes.
CHANNEL_OPTIONS = (
    *OPTIONS,
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Channels:
    """A channel belongs to the loop that it was made on."""

    def __init__(self) -> None:
        self._open: dict[tuple[asyncio.AbstractEventLoop, str], Any] = {}

    def to(self, target: str) -> Any:
        grpc = used_grpc()
        loop = asyncio.get_running_loop()
        channel = self._open.get((loop, target))
        if channel is None:
            self._forget_closed_loops()
            channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
            self._open[loop, target] = channel
        return channel

    def close(self) -> Awaitable[None]:
        """Those of this loop when awaited; those of other loops that still run are told to close."""
        opened, self._open = self._open, {}
        here = running_loop()
        for (loop, _), channel in opened.items():
            if loop is not here and loop.is_running():
                asyncio.run_coroutine_threadsafe(channel.close(), loop)
        mine = [channel for (loop, _), channel in opened.items() if loop is here]
        return on_loop(here, _close_all(mine)) if here is not None else Done()

    def _forget_closed_loops(self) -> None:
        for key in [key for key in self._open if key[0].is_closed()]:
            del self._open[key]


async def _close_all(channels: list[Any]) -> None:
    for channel in channels:
        await channel.close()


def address(agent_id: str, port: int | None, supervisor_url: str) -> tuple[str, Metadata]:
    """What to connect to, and what the call has to say there."""
    who = (AGENT, agent_id)
    own_grpc = sys.modules.get("par_harness.own_grpc")
    door = own_grpc.door if own_grpc is not None else None
    if door is not None:
        parent = sys.modules["par_harness.current"].current_call.get()
        return f"unix:{door}", (who, (PARENT, str(parent))) if parent else (who,)
    if port:
        return f"127.0.0.1:{port}", (who,)
    url = urlsplit(supervisor_url if "//" in supervisor_url else f"//{supervisor_url}")
    return f"{_bracketed(url.hostname or '127.0.0.1')}:{url.port or 80}", (who,)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
