"""`cancel` ends the call that it names, and only that one."""

from __future__ import annotations

import random
import unittest

from fake_worker import HarnessTest, frames

HANDLER = """
import asyncio, time
def handler(body):
    op = body.get("op")
    if op == "spin":
        print("spinning")
        while True: pass
    if op == "stubborn":
        try:
            print("spinning")
            while True: pass
        except BaseException as error:
            return type(error).__name__
    if op == "brief":
        until = time.monotonic() + body["seconds"]
        while time.monotonic() < until: pass
    return body
async def later(body):
    print("sleeping")
    try:
        await asyncio.sleep(600)
    finally:
        print("woken")
"""
LATER = [{"name": "later", "handler": "main:later", "sub_agent": False}]


class Cancel(HarnessTest):
    def test_a_handler_that_computes_is_interrupted(self) -> None:
        worker = self.start(HANDLER)
        id = worker.call({"op": "spin"})
        worker.wait_for_output("stdout", b"spinning")
        worker.send(id, frames.CANCEL)
        self.assertEqual(worker.failure(id), {"kind": "cancelled", "detail": "the call was cancelled"})
        self.assertEqual(worker.stop(), 0)

    def test_an_async_handler_that_never_began_is_answered_too(self) -> None:
        worker = self.start(HANDLER, exports=LATER)
        first = worker.new_id()
        ids = range(first, first + 50)
        body = frames.with_head(b"later", b"{}")
        worker.channel.sendall(
            b"".join(frames.frame(id, frames.CALL, body) + frames.frame(id, frames.CANCEL) for id in ids)
        )
        for id in ids:
            self.assertEqual(worker.failure(id)["kind"], "cancelled")
        self.assertEqual(worker.stop(), 0)
        self.assertNotIn(b"never awaited", worker.output["stderr"])

    def test_a_handler_may_answer_although_it_was_interrupted(self) -> None:
        worker = self.start(HANDLER)
        id = worker.call({"op": "stubborn"})
        worker.wait_for_output("stdout", b"spinning")
        worker.send(id, frames.CANCEL)
        self.assertEqual(worker.result(id), "CallCancelled")

    def test_an_async_handler_is_cancelled(self) -> None:
        worker = self.start(HANDLER, exports=LATER)
        id = worker.call({}, "later")
        worker.wait_for_output("stdout", b"sleeping")
        worker.send(id, frames.CANCEL)
        self.assertEqual(worker.failure(id)["kind"], "cancelled")
        worker.wait_for_output("stdout", b"woken")

    def test_a_call_that_waits_for_its_turn_never_begins(self) -> None:
        worker = self.start(HANDLER, concurrency=1)
        spinning = worker.call({"op": "spin"})
        worker.wait_for_output("stdout", b"spinning")
        waiting, last = worker.call({"op": "spin"}), worker.call({"n": 1})
        worker.send(waiting, frames.CANCEL)
        self.assertEqual(worker.failure(waiting)["kind"], "cancelled")
        worker.send(spinning, frames.CANCEL)
        self.assertEqual(worker.failure(spinning)["kind"], "cancelled")
        self.assertEqual(worker.result(last), {"n": 1})
        self.assertEqual(worker.output["stdout"].count(b"spinning"), 1)

    def test_a_call_that_is_over_or_never_was_cannot_be_cancelled(self) -> None:
        worker = self.start(HANDLER)
        id = worker.call({"n": 1})
        self.assertEqual(worker.result(id), {"n": 1})
        worker.send(id, frames.CANCEL)
        worker.send(12345, frames.CANCEL)
        self.assertEqual(worker.ask({"n": 2}), {"n": 2})

    def test_a_cancel_that_races_with_the_end_of_its_call_hits_no_other(self) -> None:
        worker = self.start(HANDLER)
        chance = random.Random(7)
        cancelled, others = [], []
        for _ in range(150):
            cancelled.append(worker.call({"op": "brief", "seconds": chance.uniform(0, 0.006)}))
            others.append(worker.call({"op": "brief", "seconds": chance.uniform(0, 0.003)}))
            worker.send(cancelled[-1], frames.CANCEL)
        for id in others:
            self.assertEqual(worker.next_of(id)[0], frames.RESULT)
        for id in cancelled:
            kind, body = worker.next_of(id)
            self.assertIn(kind, (frames.RESULT, frames.ERROR))
            self.assertTrue(kind == frames.RESULT or b'"cancelled"' in body)
        self.assertEqual(worker.stop(), 0)


if __name__ == "__main__":
    unittest.main()
