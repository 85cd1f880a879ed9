"""A property: whatever is called and cancelled at the same time, each call gets its own answer, and one end."""

from __future__ import annotations

import json
import random
import unittest

from fake_worker import FakeWorker, HarnessTest, frames

HANDLER = """
import asyncio, time
def handler(body):
    op = body["op"]
    if op == "sleep":
        time.sleep(body["seconds"])
    if op == "compute":
        until = time.monotonic() + body["seconds"]
        while time.monotonic() < until: pass
    if op == "items":
        return (number for number in range(body["n"]))
    if op == "async items":
        return items(body["n"])
    if op == "async":
        return later(body)
    return body
async def later(body):
    await asyncio.sleep(body["seconds"])
    return body
async def items(n):
    for number in range(n):
        yield number
        await asyncio.sleep(0)
"""
OPS = ("echo", "echo", "sleep", "compute", "items", "async items", "async")


class Mixture(HarnessTest):
    def test_every_call_gets_its_own_answer_and_one_end(self) -> None:
        for seed in range(4):
            with self.subTest(seed=seed):
                chance = random.Random(seed)
                worker = self.start(HANDLER, concurrency=chance.choice((1, 2, 64)))
                calls, cancelled = self.make_calls(worker, chance)
                for id, body in calls.items():
                    self.check_answer(worker, id, body, may_be_cancelled=id in cancelled)
                self.assertEqual(worker.stop(), 0)
                self.assertEqual(worker.output["stderr"], b"")

    def make_calls(self, worker: FakeWorker, chance: random.Random) -> tuple[dict[int, dict], set[int]]:
        calls: dict[int, dict] = {}
        cancelled = set()
        for serial in range(300):
            seconds = chance.choice((0, 0.0005, 0.001, 0.002, 0.004))
            body = {"op": chance.choice(OPS), "seconds": seconds, "n": chance.randrange(5), "serial": serial}
            calls[worker.call(body)] = body
            if chance.random() < 0.3:
                victim = chance.choice(list(calls))
                worker.send(victim, frames.CANCEL)
                cancelled.add(victim)
        return calls, cancelled

    def check_answer(self, worker: FakeWorker, id: int, body: dict, *, may_be_cancelled: bool) -> None:
        items = []
        kind, answer = worker.next_of(id)
        while kind == frames.CHUNK:
            items.append(json.loads(answer[1:]))
            kind, answer = worker.next_of(id)
        if kind == frames.ERROR:
            self.assertTrue(may_be_cancelled, answer)
            self.assertEqual(json.loads(answer)["kind"], "cancelled")
        elif "items" in body["op"]:
            self.assertEqual((items, answer), (list(range(body["n"])), b""))
        else:
            self.assertEqual(json.loads(answer), body)


if __name__ == "__main__":
    unittest.main()
