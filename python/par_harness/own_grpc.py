"""What this process needs to serve gRPC of its own and to call other agents over gRPC.

The gRPC itself is in `pixell_agent_runtime`, which looks this module up instead of importing it: without a harness it
serves on a port, and calls through the supervisor's.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock

from par_harness.failures import log
from par_harness.frames import SERVES
from par_harness.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any, Callable

    from par_harness.channel import Channel

# Longer than the grace that the server gives to what it is doing.
PATIENCE = 3.0


class OwnGrpc:
    """Where the agent's own services listen, on which loop, and who is told of them."""

    def __init__(
        self, path: str, threads: int, channel: Channel, start_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        self.address = f"unix:{path}"
        self.threads = threads
        self.start_loop = start_loop
        # What listens, once the agent has started a service; whoever makes it holds `making`.
        self.server: Any = None
        self.making = allocate_lock()
        self._channel = channel

    def announce(self, services: list[str]) -> None:
        """Tells the worker everything that is served now."""
        from par_harness.descriptors import descriptors_of

        said = {"services": services, "descriptors": descriptors_of(services)}
        self._channel.send_frame(0, SERVES, encode(said))

    def wait_for_starts(self) -> None:
        """What the agent began to start while it was loaded, and did not await, is served when it is ready."""
        if self.server is not None:
            _in_time(self.server.wait_for_starts, "start")

    def stop(self) -> None:
        """Ends what is served."""
        if self.server is not None:
            _in_time(self.server.shut_down, "stop")


def _in_time(wait: Callable[[float], None], what: str) -> None:
    """A loop that the agent blocks must not keep the process."""
    from concurrent.futures import TimeoutError

    try:
        wait(PATIENCE)
    except TimeoutError:
        log(f"par_harness: the agent's own gRPC server did not {what} in time\n")


# None where the agent cannot serve: outside the runtime, and in forked children, which have no loop and no channel.
own: OwnGrpc | None = None
# Where this agent's gRPC calls leave, for forked children too: the worker knows whose door it is.
door: str | None = None


def settle_forks(entrypoint: str | None) -> None:
    """What grpcio does at forks lets a program `main` use the channels of its parent, and ends other children at random.

    From Python 3.10 on, `subprocess` starts its children in a way that does not call it.
    """
    if sys.version_info < (3, 10) and not (entrypoint or "").endswith((":main", ".main")):
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def _forget_own() -> None:
    global own
    own = None


os.register_at_fork(after_in_child=_forget_own)
