"""What a request and a WebSocket have in common: chunks both ways, credit both ways, and an end."""

from __future__ import annotations

from urllib.parse import unquote

from par_harness.event_loop import Change
from par_harness.frames import HTTP, INITIAL_CREDIT, MAX_CHUNK, RESULT, chunk, credit, frame
from par_harness.streams import Credit
from par_harness.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from par_harness.channel import Channel
    from par_harness.event_loop import EventLoop
    from par_harness.streams import Streams

# After this long, an application that does not notice that its client left is cancelled.
GRACE_SECONDS = 1.0
# Consumed bytes are granted back in portions, not one frame a chunk.
GRANT_PORTION = INITIAL_CREDIT // 4


class ClientLeft(OSError):
    """What `send` raises once nobody listens, as ASGI 2.4 asks."""


class Exchange:
    """Everything but `on_…` runs on the event loop."""

    def __init__(
        self,
        application: Any,
        head: dict[str, Any],
        state: dict[str, Any] | None,
        id: int,
        channel: Channel,
        streams: Streams,
        loop: EventLoop,
    ) -> None:
        self.id = id
        self.application = application
        self.scope = scope_of(head)
        if state is not None:
            self.scope["state"] = state.copy()
        self.channel = channel
        self.loop = loop
        self.left = False
        self._streams = streams
        self._credit = Credit()
        self._consumed = 0
        self._changed = Change(loop)
        self._task: asyncio.Task[None] | None = None

    # On the reading thread

    def on_chunk(self, flags: int, body: bytes) -> None:
        self.loop.post(self.take_chunk, flags, body)

    def on_credit(self, amount: int) -> None:
        self._credit.grant(amount)
        self.loop.post(self._changed.announce)

    def on_cancel(self) -> bool:
        self.loop.post(self._cancel)
        return True

    # On the loop

    def begin(self) -> None:
        self._task = self.loop.begin_task(self.id, self._run_to_the_end())

    def take_chunk(self, flags: int, body: bytes) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        """The client is gone: wakes whoever waits for it."""
        self.left = True
        self._changed.announce()

    def announce(self) -> None:
        self._changed.announce()

    async def change(self) -> None:
        await self._changed.wait()

    def close(self) -> None:
        """No frame of this id concerns us any more."""
        self._streams.close(self.id)

    def consumed(self, body_size: int) -> None:
        """Grants what the application has taken, flags included, to the worker again."""
        self._consumed += body_size + 1
        if self._consumed >= GRANT_PORTION:
            self.channel.send(credit(self.id, self._consumed))
            self._consumed = 0

    def head_frame(self, head: dict[str, Any]) -> bytes:
        return frame(self.id, HTTP, encode(head))

    async def send_chunks(self, before: bytes, body: bytes, flags: int, flags_of_parts: int, *, last: bool) -> None:
        """Sends frames that wait, then a body in as many chunks as it needs, as the worker grants them."""
        most = MAX_CHUNK - 1
        at = 0
        while True:
            part = body[at : at + most]
            at += most
            ends = at >= len(body)
            wire = chunk(self.id, flags if ends else flags_of_parts, part)
            if before and not self._credit.covers(wire):
                self.channel.send(before)
                before = b""
            while not self._credit.covers(wire):
                if self.left:
                    raise ClientLeft("the client has left")
                await self.change()
            self._credit.take(wire)
            if ends and last:
                self.loop.send_soon(before + wire)
            else:
                self.channel.send(before + wire)
            before = b""
            if ends:
                return

    async def _run_to_the_end(self) -> None:
        try:
            await self.run()
        finally:
            self.close()
            if self.left:
                self._tell_end()

    def _cancel(self) -> None:
        if self._task is None or self._task.done():
            self._tell_end()  # the cancel and the last frame have crossed
        else:
            self.leave()
            self.loop.start().call_later(GRACE_SECONDS, self._task.cancel)

    def _tell_end(self) -> None:
        """The worker waits for this before it takes the place of the call as free."""
        self.loop.send_soon(frame(self.id, RESULT))


def scope_of(head: dict[str, Any]) -> dict[str, Any]:
    """The scope as uvicorn makes it: paths begin with the root path."""
    root_path, raw_path = head["root_path"], head["raw_path"]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": head["method"],
        "scheme": head["scheme"],
        "path": root_path + unquote(raw_path),
        "raw_path": (root_path + raw_path).encode(),
        "query_string": head["query"].encode(),
        "root_path": root_path,
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head["headers"]],
        "client": tuple(head["client"]) if head["client"] else None,
        "server": tuple(head["server"]) if head["server"] else None,
        "extensions": {"http.response.trailers": {}},
    }
    if head["websocket"]:
        scope["type"] = "websocket"
        scope["scheme"] = {"http": "ws", "https": "wss"}.get(head["scheme"], head["scheme"])
        scope["subprotocols"] = _subprotocols(scope["headers"])
        scope["extensions"] = {}
        del scope["method"]
    return scope


def text_headers(headers: Any) -> list[tuple[str, str]]:
    return [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in headers]


def _subprotocols(headers: list[tuple[bytes, bytes]]) -> list[str]:
    offered = [value.decode("latin-1") for name, value in headers if name == b"sec-websocket-protocol"]
    return [name.strip() for value in offered for name in value.split(",") if name.strip()]
