"""Generators: each item leaves at once, no faster than it is read."""

from __future__ import annotations

import json
import unittest

from fake_worker import FakeWorker, HarnessTest, frames

SYNC = """
import threading
GO = threading.Event()
def handler(body):
    if body.get("go"):
        GO.set()
        return "gone"
    return items(body)
def items(body):
    try:
        if body.get("flood"):
            number = 0
            while True:
                yield "x" * body["flood"]
                number += 1
                print("made", number)
        yield {"first": 1}
        GO.wait(20)
        if body.get("raise"): raise ValueError("no more")
        yield "x" * body.get("size", 1)
    finally:
        print("closed")
"""
ASYNC = """
import asyncio
GO = asyncio.Event()
async def items(body):
    try:
        if body.get("flood"):
            number = 0
            while True:
                yield "x" * body["flood"]
                number += 1
                print("made", number)
        yield {"first": 1}
        await GO.wait()
        if body.get("raise"): raise ValueError("no more")
        yield "x" * body.get("size", 1)
    finally:
        print("closed")
def handler(body):
    return go() if body.get("go") else items(body)
async def go():
    GO.set()
    return "gone"
"""


def item(worker: FakeWorker, id: int) -> object:
    """The next item, whose parts are granted as they are read."""
    text = b""
    while True:
        kind, body = worker.next_of(id)
        assert kind == frames.CHUNK, (kind, body)
        worker.send(id, frames.CREDIT, len(body).to_bytes(4, "big"))
        text += body[1:]
        if not body[0] & frames.CHUNK_MORE:
            return json.loads(text)


class Generators(HarnessTest):
    def test_the_first_item_arrives_before_the_second_is_made(self) -> None:
        for source in (SYNC, ASYNC):
            worker = self.start(source)
            id = worker.call({})
            self.assertEqual(item(worker, id), {"first": 1})
            self.assertEqual(worker.ask({"go": True}), "gone")
            self.assertEqual(item(worker, id), "x")
            self.assertEqual(worker.next_of(id), (frames.RESULT, b""))

    def test_an_item_larger_than_a_chunk_and_than_all_credit_arrives_whole(self) -> None:
        for source in (SYNC, ASYNC):
            worker = self.start(source)
            worker.ask({"go": True})
            id = worker.call({"size": 1_000_000})
            item(worker, id)
            self.assertEqual(item(worker, id), "x" * 1_000_000)

    def test_what_it_raises_in_the_middle_is_an_error(self) -> None:
        for source in (SYNC, ASYNC):
            worker = self.start(source)
            worker.ask({"go": True})
            id = worker.call({"raise": True})
            item(worker, id)
            self.assertEqual(worker.failure(id)["detail"], "no more")

    def test_it_makes_no_more_than_there_is_credit_for(self) -> None:
        for source in (SYNC, ASYNC):
            worker = self.start(source)
            id = worker.call({"flood": 9_997})  # a chunk of 10,000 bytes: flags and quotes
            fits = frames.INITIAL_CREDIT // 10_000
            for _ in range(fits):
                worker.next_of(id)
            self.assertEqual(worker.ask({"go": True}), "gone")
            self.assertNotIn(b"made %d\n" % (fits + 1), worker.output["stdout"])
            worker.send(id, frames.CREDIT, (10_000).to_bytes(4, "big"))
            worker.next_of(id)
            worker.wait_for_output("stdout", b"made %d\n" % (fits + 1))

    def test_cancel_closes_it_while_it_waits_for_credit(self) -> None:
        for source in (SYNC, ASYNC):
            worker = self.start(source)
            id = worker.call({"flood": 60_000})
            for _ in range(4):
                worker.next_of(id)
            worker.send(id, frames.CANCEL)
            self.assertEqual(worker.failure(id)["kind"], "cancelled")
            worker.wait_for_output("stdout", b"closed\n")


if __name__ == "__main__":
    unittest.main()
