"""One WebSocket to the agent's application.

    connecting ── websocket.accept ── open ── websocket.close, or the client leaves ── closed
        └──────── websocket.close: refused ─────────────────────────────────────────────┘
"""

from __future__ import annotations

from collections import deque

from par_harness.asgi_exchange import ClientLeft, Exchange, text_headers
from par_harness.failures import RAISED, failure, failure_of, logged_traceback
from par_harness.frames import CHUNK_MORE, CHUNK_TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONNECTING, OPEN, CLOSED = "connecting", "open", "closed"

MAX_MESSAGE = 64 << 20
NORMAL, GOING_AWAY, TOO_BIG, NO_STATUS = 1000, 1001, 1009, 1005


class WebSocketExchange(Exchange):
    def __init__(self, application: Any, head: dict[str, Any], *parts: Any) -> None:
        super().__init__(application, head, *parts)
        self._state = CONNECTING
        self._connect_reported = False
        self._fragments: list[bytes] = []
        # What came, and how many bytes of credit its last fragment holds until it is received.
        self._messages: deque[tuple[dict[str, Any], int]] = deque()
        self._close: tuple[int, str] = (GOING_AWAY, "")

    def on_disconnect(self, code: int, reason: str) -> None:
        """On the reading thread."""
        self.loop.post(self._disconnected, code, reason)

    def take_chunk(self, flags: int, body: bytes) -> None:
        self._fragments.append(body)
        if flags & CHUNK_MORE:
            # The rest can only come if this much is granted again.
            self.consumed(len(body))
            if sum(map(len, self._fragments)) > MAX_MESSAGE:
                self._send_close(TOO_BIG, "the message is too big")
            return
        whole, self._fragments = b"".join(self._fragments), []
        message: dict[str, Any] = {"type": "websocket.receive"}
        if flags & CHUNK_TEXT:
            message["text"] = whole.decode(errors="replace")
        else:
            message["bytes"] = whole
        self._messages.append((message, len(body)))
        self.announce()

    async def run(self) -> None:
        from asyncio import CancelledError

        try:
            await self.application(self.scope, self.receive, self.send)
        except CancelledError:
            self._end_with(failure(self.id, RAISED, "the application cancelled its own WebSocket"))
        except BaseException as error:
            if not self.left and self._state is not CLOSED:
                self._end_with(failure_of(self.id, error))
            elif not isinstance(error, ClientLeft):
                logged_traceback(error)
        else:
            if self._state is CONNECTING:
                detail = "the application returned without accepting or refusing"
                self._end_with(failure(self.id, RAISED, detail))
            elif self._state is OPEN:
                self._send_close(NORMAL, "")

    async def receive(self) -> dict[str, Any]:
        if not self._connect_reported:
            self._connect_reported = True
            return {"type": "websocket.connect"}
        while True:
            if self._messages:
                message, held = self._messages.popleft()
                self.consumed(held)
                return message
            if self.left or self._state is CLOSED:
                return {"type": "websocket.disconnect", "code": self._close[0], "reason": self._close[1]}
            await self.change()

    async def send(self, message: dict[str, Any]) -> None:
        if self.left:
            raise ClientLeft("the client has left")
        kind = message["type"]
        if self._state is CONNECTING and kind == "websocket.accept":
            self._accept(message)
        elif self._state is OPEN and kind == "websocket.send":
            await self._send_message(message)
        elif self._state is not CLOSED and kind == "websocket.close":
            self._send_close(int(message.get("code") or NORMAL), message.get("reason") or "")
        else:
            raise RuntimeError(f"ASGI message {kind!r} is not expected: the WebSocket is {self._state}")

    def _accept(self, message: dict[str, Any]) -> None:
        self._state = OPEN
        headers = text_headers(message.get("headers") or ())
        accept = {"type": "accept", "subprotocol": message.get("subprotocol"), "headers": headers}
        self.channel.send(self.head_frame(accept))

    async def _send_message(self, message: dict[str, Any]) -> None:
        text = message.get("text")
        flags = CHUNK_TEXT if text is not None else 0
        body = text.encode() if text is not None else bytes(message.get("bytes") or b"")
        await self.send_chunks(b"", body, flags, flags | CHUNK_MORE, last=False)

    def _send_close(self, code: int, reason: str) -> None:
        if self.left or self._state is CLOSED:
            return
        self._state = CLOSED
        self._close = (code, reason)
        self.channel.send(self.head_frame({"type": "close", "code": code, "reason": reason}))
        self.announce()

    def _end_with(self, last_frame: bytes) -> None:
        if not self.left and self._state is not CLOSED:
            self._state = CLOSED
            self.channel.send(last_frame)

    def _disconnected(self, code: int, reason: str) -> None:
        if self._state is not CLOSED:
            self._close = (code, reason)
            self.leave()
