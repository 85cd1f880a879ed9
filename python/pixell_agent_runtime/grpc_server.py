"""The gRPC server of an agent's own services, which come and go while it listens.

    no service ── the first one: bind, listen ── serving ── the last one left: stop ── no service

A server of grpcio takes no service once it has started, so it gets one handler that looks into our table.
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Lock, Thread

from pixell_agent_runtime.grpc_package import OPTIONS, Done, on_loop, running_loop, used_grpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Awaitable, Callable

    # Generated code: registers the methods of a servicer with a server.
    AddFunction = Callable[[Any, Any], None]

# Seconds that calls get to end when a server stops.
GRACE = 1.0
# For servicers that are not async, when nobody says how many.
THREADS = 32
# The worker says by this which call of its own an RPC is; what the servicer asks of other agents is on its behalf.
CALL = "x-par-call"


class Server:
    """One address; its services by name, each with the object that started it. The loop alone changes them."""

    def __init__(
        self,
        address: str,
        loop: asyncio.AbstractEventLoop,
        *,
        loop_is_ours: bool,
        threads: int = THREADS,
        changed: Callable[[list[str]], None] = lambda services: None,
        listens: Callable[[int], None] = lambda port: None,
    ) -> None:
        self.loop = loop
        # It runs as long as the process, or as long as the agent likes.
        self._loop_is_ours = loop_is_ours
        self._pid = os.getpid()
        self._address = address
        self._threads = threads
        self._changed = changed
        self._listens = listens
        self._services: dict[str, tuple[object, Any]] = {}
        self._aio: Any = None
        self._listening = False
        self._changing: asyncio.Lock | None = None

    # From any thread

    def start(self, owner: object, servicer: Any, add_function: AddFunction) -> Awaitable[None]:
        # Not on the loop: what is imported there may wait for a module that the calling thread is importing.
        used_grpc()
        registry = Registry(self._attribute)
        add_function(servicer, registry)
        if not registry.services:
            raise ValueError("the function that adds the servicer to the server has added no service")
        return on_loop(self.loop, self._add(owner, registry.services))

    def stop(self, owner: object) -> Awaitable[None]:
        if self.is_gone():
            return Done()
        if not self._loop_is_ours and not self.loop.is_running():
            return Done(self.loop.run_until_complete(self._remove(owner)))
        return on_loop(self.loop, self._remove(owner))

    def is_gone(self) -> bool:
        """Its loop has ended, or this is a forked child, where it never ran."""
        return self.loop.is_closed() or self._pid != os.getpid()

    def wait_for_starts(self, patience: float) -> None:
        asyncio.run_coroutine_threadsafe(self._changed_so_far(), self.loop).result(patience)

    def shut_down(self, patience: float) -> None:
        """The end of everything that is served; nobody is told."""
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(patience)

    def _attribute(self, name: str) -> Any:
        """What else someone expects of a server, of the real one."""

        async def made() -> Any:
            return self._made()

        here = running_loop() is self.loop
        aio = self._made() if here else asyncio.run_coroutine_threadsafe(made(), self.loop).result()
        return getattr(aio, name)

    # On the loop

    async def _add(self, owner: object, services: dict[str, Any]) -> None:
        async with self._one_change():
            before = dict(self._services)
            self._services.update({name: (owner, handler) for name, handler in services.items()})
            try:
                if not self._listening:
                    await self._listen()
            except BaseException:
                self._services = before
                raise
            self._changed(list(self._services))

    async def _remove(self, owner: object) -> None:
        async with self._one_change():
            kept = {name: entry for name, entry in self._services.items() if entry[0] is not owner}
            if len(kept) == len(self._services):
                return
            self._services = kept
            self._changed(list(kept))
            if not kept:
                await self._end()

    async def _changed_so_far(self) -> None:
        async with self._one_change():
            pass  # who waits for a lock gets it in turn

    async def _listen(self) -> None:
        aio = self._made()
        port = aio.add_insecure_port(self._address)
        await aio.start()
        self._listens(port)
        self._listening = True

    async def _end(self) -> None:
        aio, self._aio, self._listening = self._aio, None, False
        if aio is not None:
            await aio.stop(GRACE)

    def _made(self) -> Any:
        if self._aio is None:
            self._aio = used_grpc().aio.server(
                migration_thread_pool=_Threads(self._threads, thread_name_prefix="grpc"),
                handlers=(Dispatch(self),),
                options=OPTIONS,
            )
        return self._aio

    def _one_change(self) -> asyncio.Lock:
        if self._changing is None:
            self._changing = asyncio.Lock()
        return self._changing

    def find(self, service: str) -> Any:
        entry = self._services.get(service)
        return None if entry is None else entry[1]


class Dispatch:
    """The one handler that grpcio asks, in the task of each RPC."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        handler = self._server.find(details.method[1:].rpartition("/")[0])
        if handler is None:
            return None
        current = sys.modules.get("par_harness.current")
        if current is not None:
            # Not left as it is: the task has the context of whoever started the server.
            current.current_call.set(_call_of(details.invocation_metadata))
        return handler.service(details)


class Registry:
    """What generated code takes for a server: it keeps what is registered."""

    def __init__(self, attribute: Callable[[str], Any]) -> None:
        self._attribute = attribute
        self.services: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        for handler in handlers:
            name = getattr(handler, "service_name", lambda: None)()
            if not name:
                raise ValueError("a handler has to name its service, as those of `method_handlers_generic_handler` do")
            self.services[name] = handler

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        if service not in self.services:  # newer generated code registers everything in both ways
            self.services[service] = used_grpc().method_handlers_generic_handler(service, handlers)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._attribute(name)


class _Threads(ThreadPoolExecutor):
    """Threads that run on behalf of the call that their task runs for."""

    def submit(self, function: Any, /, *arguments: Any, **keywords: Any) -> Any:
        return super().submit(copy_context().run, function, *arguments, **keywords)


def _call_of(metadata: Any) -> int:
    for key, value in metadata or ():
        if key == CALL and value.isdigit():
            return int(value)
    return 0


_background: asyncio.AbstractEventLoop | None = None
_starting = Lock()


def background_loop() -> asyncio.AbstractEventLoop:
    """For code that has no loop of its own running."""
    global _background
    with _starting:
        if _background is None:
            _background = asyncio.new_event_loop()
            Thread(target=_background.run_forever, name="grpc-loop", daemon=True).start()
        return _background
