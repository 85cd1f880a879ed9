"""Each cancel is answered with one last frame, and not before nothing of the call runs any more."""

from __future__ import annotations

import json
import os
import unittest

from fake_worker import Ended, FakeWorker, HarnessTest, frames
from test_asgi import request

HANDLER = """
import asyncio, os, time
def handler(body):
    if body["op"] == "block":
        print("blocked", flush=True)
        with open("gate"): pass
    if body["op"] == "items":
        return items()
    return body
def items():
    print("begun")
    while True:
        yield "x" * 10_000
async def later(body):
    print("begun")
    try:
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0.05)
        print("over")
async def async_items(body):
    print("begun")
    while True:
        yield "x" * 10_000
async def stubborn_items(body):
    print("begun")
    while True:
        try:
            yield "x" * 10_000
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            print("over")
def late_coroutine(body):
    try:
        print("begun")
        while True: pass
    except BaseException:
        return later(body)
"""
EXPORTS = [
    {"name": name, "handler": f"main:{name}", "sub_agent": False}
    for name in ("later", "async_items", "stubborn_items", "late_coroutine")
]
PROGRAM = """
import time
def main():
    input()
    time.sleep(600)
"""
APPLICATION = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan here")
    print("begun")
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    if scope["path"] == "/complete":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"all"})
        await asyncio.Event().wait()
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass
    await asyncio.sleep(0.05)
    print("over")
"""
LAST = (frames.RESULT, frames.ERROR)


class LastFrames(HarnessTest):
    def cancel(self, worker: FakeWorker, id: int) -> None:
        worker.wait_for_output("stdout", b"begun")
        worker.send(id, frames.CANCEL)

    def assert_one_last_frame(self, worker: FakeWorker, id: int) -> None:
        """Until the agent has ended well, so that none can follow."""
        while worker.next_of(id)[0] not in LAST:
            pass
        self.assertEqual(worker.stop(), 0)
        with self.assertRaises(Ended):
            self.fail(worker.next_of(id))

    def test_generators_and_coroutines(self) -> None:
        for body, export in (
            ({"op": "items"}, ""),
            ({}, "later"),
            ({}, "async_items"),
            ({}, "stubborn_items"),
            ({}, "late_coroutine"),
        ):
            with self.subTest(body=body, export=export):
                worker = self.start(HANDLER, exports=EXPORTS)
                id = worker.call(body, export)
                self.cancel(worker, id)
                self.assert_one_last_frame(worker, id)
                self.assertNotIn(b"never awaited", worker.output["stderr"])

    def test_a_coroutine_that_cleans_up_is_over_when_it_has(self) -> None:
        worker = self.start(HANDLER, exports=EXPORTS)
        id = worker.call({}, "later")
        self.cancel(worker, id)
        self.assertEqual(worker.failure(id)["kind"], "cancelled")
        worker.wait_for_output("stdout", b"over")

    def test_programs(self) -> None:
        worker = self.start(PROGRAM, entrypoint="main:main")
        id = worker.call({})
        worker.send(id, frames.CANCEL)
        self.assert_one_last_frame(worker, id)

    def test_requests_and_web_sockets(self) -> None:
        for path, websocket in (("/", False), ("/", True), ("/complete", False)):
            with self.subTest(path=path, websocket=websocket):
                worker = self.start(APPLICATION, entrypoint=None, asgi_app="main:app")
                id = request(worker, path, websocket=websocket)
                self.cancel(worker, id)
                self.assert_one_last_frame(worker, id)

    def test_whatever_is_cancelled_with_its_first_frame(self) -> None:
        for export in ("", "later", "async_items"):
            with self.subTest(export=export):
                worker = self.start(HANDLER, exports=EXPORTS)
                id = worker.new_id()
                body = frames.with_head(export.encode(), json.dumps({"op": "items"}).encode())
                worker.channel.sendall(frames.frame(id, frames.CALL, body) + frames.frame(id, frames.CANCEL))
                self.assert_one_last_frame(worker, id)

    def test_a_cancel_that_crossed_with_the_last_frame_is_answered_too(self) -> None:
        worker = self.start(HANDLER, exports=EXPORTS)
        self.assertEqual(worker.ask({"op": "echo"}), {"op": "echo"})
        for id in (1, 12345):
            worker.send(id, frames.CANCEL)
            self.assertEqual(worker.failure(id)["kind"], "cancelled")


class Threads(HarnessTest):
    def test_a_cancelled_call_keeps_its_place_until_its_thread_returns(self) -> None:
        worker = self.start(HANDLER, concurrency=2)
        gate = os.path.join(worker.package, "gate")
        os.mkfifo(gate)
        blocked = [worker.call({"op": "block"}) for _ in range(2)]
        worker.wait_for_output("stdout", b"blocked\nblocked\n")
        for id in blocked:
            worker.send(id, frames.CANCEL)
        threads = self.count_threads(worker)
        for _ in range(100):
            id = worker.call({"op": "block"})
            worker.send(id, frames.CANCEL)
            self.assertEqual(worker.failure(id)["kind"], "cancelled")
        self.assertLessEqual(self.count_threads(worker), threads + 1)
        waiting = worker.call({"op": "echo"})
        with open(gate, "w"):
            for id in blocked:
                self.assertEqual(worker.failure(id)["kind"], "cancelled")
        self.assertEqual(worker.result(waiting), {"op": "echo"})
        self.assertEqual(worker.output["stdout"].count(b"blocked"), 2)
        self.assertEqual(worker.stop(), 0)

    def count_threads(self, worker: FakeWorker) -> int:
        return len(os.listdir(f"/proc/{worker.process.pid}/task"))


if __name__ == "__main__":
    unittest.main()
