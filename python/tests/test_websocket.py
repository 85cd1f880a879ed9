"""A WebSocket behind frames: its handshake, its messages and both of its ends."""

from __future__ import annotations

import json
import unittest

from fake_worker import HarnessTest, frames
from test_asgi import next_chunk, request, response_head

APP = """
async def app(scope, receive, send):
    if scope["type"] != "websocket":
        raise RuntimeError("no lifespan here")
    assert (await receive())["type"] == "websocket.connect"
    path = scope["path"]
    if path == "/refuse":
        await send({"type": "websocket.close", "code": 4001, "reason": "not you"})
        return
    if path == "/raise":
        raise ValueError("before the handshake")
    await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][-1], "headers": [(b"x-a", b"1")]})
    if path == "/flood":
        while True:
            await send({"type": "websocket.send", "bytes": b"x" * 100_000})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("left with", message["code"], message["reason"])
            return
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4002, "reason": "as you wish"})
            return
        if message.get("text") == "return":
            return
        if message.get("text") == "raise":
            raise ValueError("in the middle")
        kind = "text" if "text" in message else "bytes"
        await send({"type": "websocket.send", kind: message[kind]})
"""


class WebSockets(HarnessTest):
    def setUp(self) -> None:
        self.worker = self.start(APP, entrypoint=None, asgi_app="main:app")

    def connect(self, path: str = "/", *, accepted: bool = True) -> int:
        offered = [["sec-websocket-protocol", "one, two"]]
        id = request(self.worker, path, websocket=True, headers=offered)
        if accepted:
            accept = {"type": "accept", "subprotocol": "two", "headers": [["x-a", "1"]]}
            self.assertEqual(response_head(self.worker, id), accept)
        return id

    def say(self, id: int, message: bytes, flags: int = frames.CHUNK_TEXT) -> None:
        self.worker.send(id, frames.CHUNK, bytes([flags]) + message)

    def test_text_and_binary_messages_pass(self) -> None:
        id = self.connect()
        self.say(id, "é".encode())
        self.assertEqual(next_chunk(self.worker, id), (frames.CHUNK_TEXT, "é".encode()))
        self.say(id, b"\xff\0", 0)
        self.assertEqual(next_chunk(self.worker, id), (0, b"\xff\0"))

    def test_a_message_larger_than_all_credit_passes_in_fragments(self) -> None:
        id = self.connect()
        parts, allowed = [b"%05d" % n * 10_000 for n in range(20)], frames.INITIAL_CREDIT
        for part in parts:
            while allowed < len(part) + 1:
                kind, amount = self.worker.next_of(id)
                self.assertEqual(kind, frames.CREDIT)
                allowed += int.from_bytes(amount, "big")
            last = part is parts[-1]
            self.say(id, part, frames.CHUNK_TEXT | (0 if last else frames.CHUNK_MORE))
            allowed -= len(part) + 1
        seen, flags = b"", frames.CHUNK_MORE
        while flags & frames.CHUNK_MORE:
            flags, part = next_chunk(self.worker, id)
            self.worker.send(id, frames.CREDIT, (len(part) + 1).to_bytes(4, "big"))
            seen += part
        self.assertEqual(seen, b"".join(parts))

    def test_the_application_closes_with_its_code(self) -> None:
        id = self.connect()
        self.say(id, b"close")
        self.assertEqual(response_head(self.worker, id), {"type": "close", "code": 4002, "reason": "as you wish"})
        id = self.connect()
        self.say(id, b"return")
        self.assertEqual(response_head(self.worker, id)["code"], 1000)

    def test_the_application_refuses_before_the_handshake(self) -> None:
        id = self.connect("/refuse", accepted=False)
        self.assertEqual(response_head(self.worker, id), {"type": "close", "code": 4001, "reason": "not you"})

    def test_what_it_raises_is_an_error(self) -> None:
        self.assertEqual(self.worker.failure(self.connect("/raise", accepted=False))["detail"], "before the handshake")
        id = self.connect()
        self.say(id, b"raise")
        self.assertEqual(self.worker.failure(id)["detail"], "in the middle")

    def test_the_client_leaves_with_its_code(self) -> None:
        id = self.connect()
        self.worker.send(id, frames.HTTP, json.dumps({"code": 4003, "reason": "bye"}).encode())
        self.worker.wait_for_output("stdout", b"left with 4003 bye\n")
        self.assertEqual(self.worker.next_of(id), (frames.RESULT, b""))

    def test_a_socket_that_floods_ends_when_its_client_is_gone(self) -> None:
        id = self.connect("/flood")
        next_chunk(self.worker, id)
        self.worker.send(id, frames.CANCEL)
        self.assertEqual(self.worker.stop(), 0)


if __name__ == "__main__":
    unittest.main()
