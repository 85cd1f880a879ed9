"""Calling other agents by their ids.

Inside the runtime the call leaves through the harness, so it needs no network, and the runtime knows on whose behalf
it is made. Anywhere else, such as in an agent's own tests, it is a plain HTTP request to the supervisor.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pixell_agent_runtime.a2a_grpc_client import A2AGrpcClient

DEFAULT_SUPERVISOR_URL = "http://127.0.0.1:8000"

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class A2ACallError(Exception):
    """The other agent did not answer 200. `status` is 0 when no answer came at all."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"A2A call failed: {status} - {text}" if status else f"A2A call failed: {text}")
        self.status = status
        self.text = text


class A2AGrpcError(A2ACallError):
    """The other agent's method did not answer OK. `code` is the name of a gRPC status, such as `UNAVAILABLE`."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(0, f"{code} - {details}")
        self.code = code


class A2AClient:
    def __init__(self, supervisor_url: str | None = None) -> None:
        url = supervisor_url or os.environ.get("PAR_SUPERVISOR_URL") or DEFAULT_SUPERVISOR_URL
        self.supervisor_url = url.rstrip("/")
        self._grpc: A2AGrpcClient | None = None

    async def call(
        self, agent_id: str, method: str, params: Any = None, *, timeout_seconds: float | None = None
    ) -> Any:
        """What the export `method` of the other agent answers to `params`."""
        request = (agent_id, _export_path(method), _encoded(params), timeout_seconds)
        carrier = _carrier()
        if carrier is not None:
            status, body = await carrier.request_async(*request)
        else:
            from asyncio import get_running_loop

            status, body = await get_running_loop().run_in_executor(None, self._post, *request)
        return _answer(status, body)

    def call_sync(self, agent_id: str, method: str, params: Any = None, *, timeout_seconds: float | None = None) -> Any:
        """Like `call`, for code that cannot await."""
        request = (agent_id, _export_path(method), _encoded(params), timeout_seconds)
        carrier = _carrier()
        status, body = carrier.request(*request) if carrier is not None else self._post(*request)
        return _answer(status, body)

    async def call_grpc(
        self, agent_id: str, service: str, method: str, message: Any, *, timeout_seconds: float | None = None
    ) -> Any:
        """What a method of the other agent's gRPC service answers; `A2AGrpcClient` says to which messages."""
        from pixell_agent_runtime.a2a_grpc_client import A2AGrpcClient
        from pixell_agent_runtime.grpc_package import imported_grpc

        grpc = imported_grpc()
        if self._grpc is None:
            self._grpc = A2AGrpcClient(self.supervisor_url)
        try:
            return await self._grpc.call_grpc_method(
                agent_id, None, service, method, message, timeout_seconds=timeout_seconds
            )
        except grpc.aio.AioRpcError as error:
            raise A2AGrpcError(error.code().name, error.details() or "") from error

    def _post(self, agent_id: str, path: str, body: bytes, timeout_seconds: float | None) -> tuple[int, bytes]:
        from urllib.error import HTTPError, URLError
        from urllib.request import Request, urlopen

        url = f"{self.supervisor_url}/agents/{_quoted(agent_id)}{path}"
        request = Request(url, data=body, headers={"content-type": "application/json"})
        try:
            with urlopen(request, timeout=timeout_seconds) as response:
                return response.status, response.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()
        except (URLError, OSError) as error:
            return 0, f"{url} cannot be reached: {getattr(error, 'reason', error)}".encode()


_shared_client: A2AClient | None = None


def get_a2a_client() -> A2AClient:
    """One client for the whole agent, for the supervisor that runs it."""
    global _shared_client
    if _shared_client is None:
        _shared_client = A2AClient()
    return _shared_client


def _carrier() -> Any:
    """The harness, if it serves this process. Looked up, not imported: this package also works without it."""
    outbound = sys.modules.get("par_harness.outbound")
    return outbound.carrier if outbound is not None else None


def _export_path(method: str) -> str:
    return f"/exports/{_quoted(method)}"


def _quoted(segment: str) -> str:
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in segment.encode())


def _encoded(params: Any) -> bytes:
    return json.dumps({} if params is None else params).encode()


def _answer(status: int, body: bytes) -> Any:
    text = body.decode(errors="replace")
    if status != 200:
        raise A2ACallError(status, text)
    return json.loads(text)
