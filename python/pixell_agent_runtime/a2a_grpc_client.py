"""gRPC of an agent's own: calling other agents' services, and serving one.

grpcio, and protobuf for dicts as messages, belong to the agent's requirements; they are imported when they are used.
"""

from __future__ import annotations

import os
import sys
from time import monotonic

from pixell_agent_runtime.a2a_client import DEFAULT_SUPERVISOR_URL
from pixell_agent_runtime.grpc_channels import Channels, address
from pixell_agent_runtime.grpc_forms import Dicts, form_of
from pixell_agent_runtime.grpc_package import Done, running_loop
from pixell_agent_runtime.grpc_reflection import describe
from pixell_agent_runtime.grpc_server import Server, background_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, AsyncIterator, Awaitable

    from pixell_agent_runtime.grpc_channels import Metadata
    from pixell_agent_runtime.grpc_forms import Form
    from pixell_agent_runtime.grpc_server import AddFunction

# Another agent may be deployed anew with another description of its services.
DESCRIPTION_LIVES = 60.0
MOST_DESCRIPTIONS = 256


class A2AGrpcClient:
    """Calls methods of other agents by name. A call raises `grpc.aio.AioRpcError` when its status is not OK.

    The answer has the form of the request: a message for a message, as far as generated code of the service is
    imported, bytes for bytes, and a dict for a dict, by the server's own description of the service.
    """

    def __init__(self, supervisor_url: str | None = None) -> None:
        self._supervisor_url = supervisor_url or os.environ.get("PAR_SUPERVISOR_URL") or DEFAULT_SUPERVISOR_URL
        self._channels = Channels()
        # By target, agent and service: until when it is used, the service, and the pool it lives in.
        self._descriptions: dict[tuple[str, str, str], tuple[float, Any, Any]] = {}

    async def call_grpc_method(
        self,
        agent_id: str,
        port: int | None,
        service_name: str,
        method_name: str,
        request_message: Any,
        *,
        timeout_seconds: float | None = None,
        metadata: Any = (),
    ) -> Any:
        """What the method answers. Inside the runtime `port` says nothing: the id alone finds the agent."""
        call = await self._prepared(agent_id, port, service_name, method_name, request_message, timeout_seconds)
        method = self._channels.to(call.target).unary_unary(call.path)
        return call.form.decode(await method(call.request, timeout=timeout_seconds, metadata=call.with_(metadata)))

    async def stream_grpc_method(
        self,
        agent_id: str,
        port: int | None,
        service_name: str,
        method_name: str,
        request_message: Any,
        *,
        timeout_seconds: float | None = None,
        metadata: Any = (),
    ) -> AsyncIterator[Any]:
        """What a method that streams answers, one by one."""
        call = await self._prepared(agent_id, port, service_name, method_name, request_message, timeout_seconds)
        method = self._channels.to(call.target).unary_stream(call.path)
        answers = method(call.request, timeout=timeout_seconds, metadata=call.with_(metadata))
        try:
            async for answer in answers:
                yield call.form.decode(answer)
        finally:
            answers.cancel()

    def close(self) -> Awaitable[None]:
        """May be awaited, and need not be."""
        return self._channels.close()

    async def _prepared(
        self, agent_id: str, port: int | None, service: str, method: str, request: Any, timeout_seconds: float | None
    ) -> _Call:
        target, metadata = address(agent_id, port, self._supervisor_url)
        form = form_of(request, service, method)
        if form is not None:
            return _Call(target, f"/{service}/{method}", metadata, form, form.encode(request))
        key = (target, agent_id, service)
        known = key in self._descriptions
        try:
            form = await self._dicts(key, method, metadata, timeout_seconds)
            encoded = form.encode(request)
        except ValueError:  # what the description does not know, or not so
            if not known:
                raise
            self._descriptions.pop(key, None)
            form = await self._dicts(key, method, metadata, timeout_seconds)
            encoded = form.encode(request)
        return _Call(target, f"/{service}/{method}", metadata, form, encoded)

    async def _dicts(
        self, key: tuple[str, str, str], method: str, metadata: Metadata, timeout_seconds: float | None
    ) -> Form:
        target, _, name = key
        now = monotonic()
        until, service, pool = self._descriptions.get(key, (now, None, None))
        if until <= now:
            service, pool = await describe(self._channels.to(target), name, metadata, timeout_seconds)
            if len(self._descriptions) >= MOST_DESCRIPTIONS:
                self._descriptions.clear()
            self._descriptions[key] = (now + DESCRIPTION_LIVES, service, pool)
        found = service.methods_by_name.get(method)
        if found is None:
            raise ValueError(f"the service {name} has no method {method}")
        return Dicts(found, pool)


class _Call:
    """A call, before it is made."""

    def __init__(self, target: str, path: str, metadata: Metadata, form: Form, request: bytes) -> None:
        self.target = target
        self.path = path
        self.form = form
        self.request = request
        self._metadata = metadata

    def with_(self, given: Any) -> Metadata:
        """The caller's metadata beside ours."""
        pairs = given.items() if hasattr(given, "items") else given
        ours = {key for key, _ in self._metadata}
        return (*((key, value) for key, value in pairs if key not in ours), *self._metadata)


class A2AGrpcServer:
    """Serves services of the agent. `start` and `stop` may be awaited; where no loop runs, they need not be.

    Inside the runtime all services of an agent share the port that the runtime gives it, whatever `port` is.
    Anywhere else, such as in an agent's own tests, this listens on that port of the loopback interface.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._server: Server | None = None

    def start(self, servicer: Any, add_function: AddFunction) -> Awaitable[None]:
        """Serves what `add_function`, such as a generated `add_XServicer_to_server`, adds, beside what is served."""
        self._server = _shared_server() or self._listening_server()
        return self._server.start(self, servicer, add_function)

    def stop(self) -> Awaitable[None]:
        """The end of what this object has started."""
        return Done() if self._server is None else self._server.stop(self)

    def _listening_server(self) -> Server:
        if self._server is not None and not self._server.is_gone():
            return self._server
        here = running_loop()
        return Server(
            f"127.0.0.1:{self.port}",
            here or background_loop(),
            loop_is_ours=here is None,
            listens=self._listens,
        )

    def _listens(self, port: int) -> None:
        self.port = port


def _shared_server() -> Server | None:
    """The one of this agent, if the harness serves this process. Looked up, not imported, as in `a2a_client`."""
    own_grpc = sys.modules.get("par_harness.own_grpc")
    own = own_grpc.own if own_grpc is not None else None
    if own is None:
        return None
    with own.making:
        if own.server is None:
            own.server = Server(
                own.address, own.start_loop(), loop_is_ours=True, threads=own.threads, changed=own.announce
            )
        server: Server = own.server
        return server
