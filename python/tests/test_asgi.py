"""An ASGI application behind frames: streaming and back-pressure both ways, disconnects, trailers, lifespan."""

from __future__ import annotations

import importlib.util
import json
import os
import time
import unittest

from fake_worker import FakeWorker, HarnessTest, frames

APP = """
import asyncio, sys
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["started"] = "yes"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shut down")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await globals()[scope["path"].strip("/").split("/")[-1]](scope, receive, send)

async def start(send, **more):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1"), (b"x-a", b"\\xe9")], **more})
async def body(send, part, more=False):
    await send({"type": "http.response.body", "body": part, "more_body": more})
async def whole(receive):
    parts = []
    while True:
        message = await receive()
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)

async def scope(scope, receive, send):
    await start(send)
    await body(send, repr({key: scope[key] for key in sorted(scope)}).encode())
async def echo(scope, receive, send):
    await start(send)
    await body(send, await whole(receive))
async def early(scope, receive, send):
    await start(send)
    await body(send, b"first", True)
    await receive()
    await body(send, b"second")
async def flood(scope, receive, send):
    await start(send)
    sent = 0
    while True:
        await body(send, b"x" * 10000, True)
        sent += 1
        print("sent", sent)
async def slow_reader(scope, receive, send):
    await start(send)
    await body(send, b"go", True)
    await receive()
    await body(send, b"read one", True)
    size = len(await whole(receive))
    await body(send, str(size).encode())
async def boom(scope, receive, send):
    raise RuntimeError("rest boom")
async def late_boom(scope, receive, send):
    await start(send)
    await body(send, b"begun", True)
    raise RuntimeError("too late")
async def nothing(scope, receive, send):
    pass
async def trailers(scope, receive, send):
    await start(send, trailers=True)
    await body(send, b"data")
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"4")]})
async def hang(scope, receive, send):
    await start(send)
    await body(send, b"hanging", True)
    try:
        print("got", (await receive())["type"], (await receive())["type"])
        await body(send, b"nobody listens", True)
    except OSError as error:
        print("send raised", type(error).__name__)
    try:
        await asyncio.sleep(600)
    finally:
        print("cancelled")
"""
FASTAPI = """
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
def mount(app: FastAPI):
    @app.get("/api/hello")
    async def hello(name: str = "world"):
        return {"message": f"Hello {name}"}
    @app.get("/api/boom")
    def boom():
        raise RuntimeError("rest boom")
    @app.get("/api/sse")
    async def sse():
        async def events():
            yield "data: 0\\n\\n"
            yield "data: 1\\n\\n"
        return StreamingResponse(events(), media_type="text/event-stream")
    @app.websocket("/api/ws")
    async def ws(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("you said " + await websocket.receive_text())
def handler(body):
    return body
"""


def request(worker: FakeWorker, path: str, body: bytes | None = b"", **head: object) -> int:
    """Sends a request; without a body when it is None, and its chunks come later when it is not given."""
    id = worker.new_id()
    fields = {
        "websocket": False,
        "method": "GET",
        "raw_path": path,
        "query": "",
        "root_path": "",
        "scheme": "http",
        "headers": [],
        "client": ["127.0.0.1", 4],
        "server": None,
        "end": body == b"",
        **head,
    }
    worker.send(id, frames.HTTP, json.dumps(fields).encode())
    if body:
        worker.send(id, frames.CHUNK, bytes([frames.CHUNK_LAST]) + body)
    return id


def response_head(worker: FakeWorker, id: int) -> dict:
    kind, body = worker.next_of(id)
    assert kind == frames.HTTP, (kind, body)
    return json.loads(body)


def next_chunk(worker: FakeWorker, id: int) -> tuple[int, bytes]:
    """The next chunk, past what credit the harness grants."""
    kind, body = worker.next_of(id)
    while kind == frames.CREDIT:
        kind, body = worker.next_of(id)
    assert kind == frames.CHUNK, (kind, body)
    return body[0], body[1:]


def whole_body(worker: FakeWorker, id: int) -> bytes:
    parts = []
    while True:
        flags, part = next_chunk(worker, id)
        worker.send(id, frames.CREDIT, (len(part) + 1).to_bytes(4, "big"))
        parts.append(part)
        if flags & frames.CHUNK_LAST:
            return b"".join(parts)


class Http(HarnessTest):
    def start_app(self) -> FakeWorker:
        worker = self.start(APP, entrypoint=None, asgi_app="main:app")
        self.assertEqual(self.ready, {"adapter": "none", "exports": [], "actions": [], "asgi": True})
        return worker

    def test_the_scope_is_as_uvicorn_makes_it(self) -> None:
        worker = self.start_app()
        id = request(
            worker, "/a%20%C3%A9%2Fb/scope", query="q=%20", root_path="/agents/x", headers=[["x-a", "é"], ["x-a", "2"]]
        )
        start = response_head(worker, id)
        self.assertEqual(
            start, {"type": "start", "status": 200, "headers": [["x-a", "1"], ["x-a", "é"]], "trailers": False}
        )
        scope = eval(whole_body(worker, id))
        self.assertEqual(scope["path"], "/agents/x/a é/b/scope")
        self.assertEqual(scope["raw_path"], b"/agents/x/a%20%C3%A9%2Fb/scope")
        self.assertEqual((scope["query_string"], scope["root_path"]), (b"q=%20", "/agents/x"))
        self.assertEqual(scope["headers"], [(b"x-a", b"\xe9"), (b"x-a", b"2")])
        self.assertEqual((scope["client"], scope["server"]), (("127.0.0.1", 4), None))
        self.assertEqual(scope["asgi"], {"version": "3.0", "spec_version": "2.4"})
        self.assertEqual(scope["state"], {"started": "yes"})

    def test_bodies_of_megabytes_pass_both_ways(self) -> None:
        worker = self.start_app()
        body = os.urandom(3_000_000)
        id = request(worker, "/echo", None)
        allowed, granted = frames.INITIAL_CREDIT, 0
        for at in range(0, len(body), 60_000):
            part = body[at : at + 60_000]
            while allowed < len(part) + 1:
                kind, amount = worker.next_of(id)
                self.assertEqual(kind, frames.CREDIT)
                allowed += int.from_bytes(amount, "big")
            worker.send(id, frames.CHUNK, b"\0" + part)
            allowed -= len(part) + 1
        worker.send(id, frames.CHUNK, bytes([frames.CHUNK_LAST]))
        kind, head = worker.next_of(id)
        while kind == frames.CREDIT:
            kind, head = worker.next_of(id)
        self.assertEqual(kind, frames.HTTP)
        self.assertEqual(whole_body(worker, id), body)

    def test_a_part_of_the_response_is_sent_before_the_next_is_made(self) -> None:
        worker = self.start_app()
        id = request(worker, "/early", None)
        response_head(worker, id)
        self.assertEqual(next_chunk(worker, id), (0, b"first"))
        worker.send(id, frames.CHUNK, bytes([frames.CHUNK_LAST]))
        self.assertEqual(next_chunk(worker, id), (frames.CHUNK_LAST, b"second"))

    def test_an_application_cannot_run_ahead_of_its_reader(self) -> None:
        worker = self.start_app()
        id = request(worker, "/flood")
        response_head(worker, id)
        fits = frames.INITIAL_CREDIT // 10_001
        for _ in range(fits):
            next_chunk(worker, id)
        other = request(worker, "/echo", b"meanwhile")
        response_head(worker, other)
        self.assertEqual(whole_body(worker, other), b"meanwhile")
        self.assertNotIn(b"sent %d\n" % (fits + 1), worker.output["stdout"])
        worker.send(id, frames.CREDIT, (10_001).to_bytes(4, "big"))
        next_chunk(worker, id)
        worker.wait_for_output("stdout", b"sent %d\n" % (fits + 1))

    def test_credit_is_granted_only_for_what_the_application_has_read(self) -> None:
        worker = self.start_app()
        id = request(worker, "/slow_reader", None)
        for _ in range(4):
            worker.send(id, frames.CHUNK, b"\0" + b"y" * 65_000)
        worker.send(id, frames.CHUNK, bytes([frames.CHUNK_LAST]) + b"z")
        response_head(worker, id)
        # One chunk read is below the portion that is granted at once.
        self.assertEqual(worker.next_of(id), (frames.CHUNK, b"\0go"))
        self.assertEqual(worker.next_of(id), (frames.CHUNK, b"\0read one"))
        kind, amount = worker.next_of(id)
        self.assertEqual((kind, int.from_bytes(amount, "big")), (frames.CREDIT, 2 * 65_001))
        self.assertEqual(whole_body(worker, id), b"195001")

    def test_what_the_application_raises_is_an_error_before_and_after_the_start(self) -> None:
        worker = self.start_app()
        failure = worker.failure(request(worker, "/boom"))
        self.assertEqual((failure["kind"], failure["detail"]), ("raised", "rest boom"))
        id = request(worker, "/late_boom")
        response_head(worker, id)
        self.assertEqual(next_chunk(worker, id)[1], b"begun")
        self.assertEqual(worker.failure(id)["detail"], "too late")
        self.assertIn("without completing", worker.failure(request(worker, "/nothing"))["detail"])

    def test_a_head_request_gets_no_body(self) -> None:
        worker = self.start_app()
        id = request(worker, "/scope", method="HEAD")
        response_head(worker, id)
        self.assertEqual(next_chunk(worker, id), (frames.CHUNK_LAST, b""))

    def test_trailers_follow_the_body(self) -> None:
        worker = self.start_app()
        id = request(worker, "/trailers")
        self.assertTrue(response_head(worker, id)["trailers"])
        self.assertEqual(next_chunk(worker, id), (0, b"data"))
        flags, body = next_chunk(worker, id)
        self.assertEqual(flags, frames.CHUNK_TRAILERS | frames.CHUNK_LAST)
        self.assertEqual(json.loads(body), [["x-sum", "4"]])

    def test_cancel_is_a_disconnect_then_an_error_of_send_then_the_end(self) -> None:
        worker = self.start_app()
        id = request(worker, "/hang")
        response_head(worker, id)
        next_chunk(worker, id)
        worker.send(id, frames.CANCEL)
        worker.wait_for_output("stdout", b"got http.request http.disconnect\nsend raised ClientLeft\ncancelled\n")

    def test_stop_shuts_the_application_down(self) -> None:
        worker = self.start_app()
        self.assertEqual(worker.stop(), 0)
        worker.wait_for_output("stdout", b"shut down\n")


class LifespanOutcomes(HarnessTest):
    def test_a_failed_startup_is_a_failure_to_load(self) -> None:
        app = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "Traceback\\nValueError: no database"})
"""
        worker = self.launch({"main.py": app}, entrypoint=None, asgi_app="main:app")
        failure = worker.failure(0)
        self.assertEqual(failure["kind"], "load")
        self.assertEqual(failure["detail"], "the ASGI application failed to start: ValueError: no database")
        self.assertEqual(worker.process.wait(20), 1)

    def test_an_application_without_lifespan_is_served(self) -> None:
        app = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})
"""
        worker = self.start(app, entrypoint=None, asgi_app="main:app")
        id = request(worker, "/")
        self.assertEqual(response_head(worker, id)["status"], 204)
        self.assertEqual(next_chunk(worker, id), (frames.CHUNK_LAST, b""))
        self.assertEqual(worker.stop(), 0)


@unittest.skipUnless(importlib.util.find_spec("fastapi"), "FastAPI is not installed for this interpreter")
class OnFastApi(HarnessTest):
    def start_mounted(self) -> FakeWorker:
        site = [os.path.dirname(os.path.dirname(importlib.util.find_spec("fastapi").origin))]
        return self.start(FASTAPI, entrypoint="main:handler", rest_entry="mount", site=site)

    def test_the_agents_routes_answer_beside_its_handler(self) -> None:
        worker = self.start_mounted()
        id = request(worker, "/api/hello", query="name=Ada", root_path="/agents/x")
        self.assertEqual(response_head(worker, id)["status"], 200)
        self.assertEqual(json.loads(whole_body(worker, id)), {"message": "Hello Ada"})
        self.assertEqual(worker.ask({"x": 1}), {"x": 1})
        id = request(worker, "/api/sse")
        response_head(worker, id)
        self.assertEqual(next_chunk(worker, id), (0, b"data: 0\n\n"))
        self.assertEqual(next_chunk(worker, id), (0, b"data: 1\n\n"))
        id = request(worker, "/api/boom")
        self.assertEqual(response_head(worker, id)["status"], 500)
        worker.wait_for_output("stderr", b"rest boom")

    def test_its_websockets_talk(self) -> None:
        worker = self.start_mounted()
        id = request(worker, "/api/ws", websocket=True)
        self.assertEqual(response_head(worker, id)["type"], "accept")
        worker.send(id, frames.CHUNK, bytes([frames.CHUNK_TEXT]) + b"hi")
        self.assertEqual(next_chunk(worker, id), (frames.CHUNK_TEXT, b"you said hi"))


if __name__ == "__main__":
    unittest.main()
