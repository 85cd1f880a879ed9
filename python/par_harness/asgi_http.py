"""One HTTP request to the agent's application.

    waiting ── http.response.start ── started ── http.response.body ── … ── complete
       │                                 │
       └───────────── raises ────────────┴── `error`: the worker answers 500, or cuts what it has begun
"""

from __future__ import annotations

from collections import deque

from par_harness.asgi_exchange import ClientLeft, Exchange, text_headers
from par_harness.failures import RAISED, failure, failure_of, logged_traceback
from par_harness.frames import CHUNK_LAST, CHUNK_TRAILERS
from par_harness.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WAITING, STARTED, TRAILERS, COMPLETE = "waiting", "started", "trailers", "complete"


class HttpExchange(Exchange):
    def __init__(self, application: Any, head: dict[str, Any], *parts: Any) -> None:
        super().__init__(application, head, *parts)
        self._body: deque[bytes] = deque()
        self._body_ended = head["end"]
        self._body_reported = False
        self._state = WAITING
        self._is_head = head["method"] == "HEAD"
        # ASGI: the response begins with its first body, so its start waits for it.
        self._start_frame = b""
        self._announced_trailers = False
        self._trailers: list[tuple[str, str]] = []

    def take_chunk(self, flags: int, body: bytes) -> None:
        if body and not flags & CHUNK_TRAILERS:
            self._body.append(body)
        if flags & (CHUNK_LAST | CHUNK_TRAILERS):
            self._body_ended = True
        self.announce()

    async def run(self) -> None:
        from asyncio import CancelledError

        try:
            await self.application(self.scope, self.receive, self.send)
        except CancelledError:
            if not self.left:
                self._fail("the application cancelled its own request")
        except BaseException as error:
            self._raised(error)
        else:
            if self._state is not COMPLETE and not self.left:
                self._fail("the application returned without completing its response")

    async def receive(self) -> dict[str, Any]:
        while True:
            if self.left or self._state is COMPLETE:
                return {"type": "http.disconnect"}
            if self._body or (self._body_ended and not self._body_reported):
                return self._next_body()
            await self.change()

    async def send(self, message: dict[str, Any]) -> None:
        if self.left:
            raise ClientLeft("the client has left")
        kind = message["type"]
        if self._state is WAITING and kind == "http.response.start":
            self._start(message)
        elif self._state is STARTED and kind == "http.response.body":
            await self._send_body(message)
        elif self._state is TRAILERS and kind == "http.response.trailers":
            await self._send_trailers(message)
        else:
            raise RuntimeError(f"ASGI message {kind!r} is not expected: the response is {self._state}")

    def _next_body(self) -> dict[str, Any]:
        body = self._body.popleft() if self._body else b""
        self.consumed(len(body))
        more = bool(self._body) or not self._body_ended
        self._body_reported = not more
        return {"type": "http.request", "body": body, "more_body": more}

    def _start(self, message: dict[str, Any]) -> None:
        self._announced_trailers = bool(message.get("trailers", False))
        start = {
            "type": "start",
            "status": int(message["status"]),
            "headers": text_headers(message.get("headers", ())),
            "trailers": self._announced_trailers,
        }
        self._start_frame = self.head_frame(start)
        self._state = STARTED

    async def _send_body(self, message: dict[str, Any]) -> None:
        body = b"" if self._is_head else bytes(message.get("body", b""))
        more = bool(message.get("more_body", False))
        start, self._start_frame = self._start_frame, b""
        last = not more and not self._announced_trailers
        if last:
            self._complete()
        elif not more:
            self._state = TRAILERS
        if body or last:
            await self.send_chunks(start, body, CHUNK_LAST if last else 0, 0, last=last)
        elif start:
            self.channel.send(start)

    async def _send_trailers(self, message: dict[str, Any]) -> None:
        self._trailers += text_headers(message.get("headers", ()))
        if not message.get("more_trailers", False):
            self._complete()
            await self.send_chunks(b"", encode(self._trailers), CHUNK_TRAILERS | CHUNK_LAST, 0, last=True)

    def _complete(self) -> None:
        self._state = COMPLETE
        self.announce()

    def _raised(self, error: BaseException) -> None:
        if self.left or self._state is COMPLETE:
            if not isinstance(error, ClientLeft):
                logged_traceback(error)
            return
        self._complete()
        self.loop.send_soon(failure_of(self.id, error))

    def _fail(self, detail: str) -> None:
        if self._state is not COMPLETE:
            self._complete()
            self.loop.send_soon(failure(self.id, RAISED, detail))
