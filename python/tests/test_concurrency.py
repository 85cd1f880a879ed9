"""Calls beside each other: none waits for one that is slow."""

from __future__ import annotations

import time
import unittest
from typing import Callable

from fake_worker import HarnessTest

MIXED = """
import threading
RELEASE = threading.Event()
def handler(body):
    op = body.get("op")
    if op == "spin":
        while True: pass
    if op == "wait":
        RELEASE.wait(20)
    if op == "release":
        RELEASE.set()
    return body
"""


def time_of(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


class SlowCalls(HarnessTest):
    def test_a_handler_that_never_ends_does_not_delay_the_next_call(self) -> None:
        worker = self.start(MIXED, concurrency=4)
        worker.ask({})
        worker.call({"op": "spin"})
        worker.call({"op": "spin"})
        self.assertLess(min(time_of(worker.ask) for _ in range(5)), 0.05)

    def test_a_blocked_handler_is_released_by_a_later_call(self) -> None:
        worker = self.start(MIXED)
        blocked = [worker.call({"op": "wait", "n": n}) for n in range(20)]
        worker.ask({"op": "release"})
        self.assertEqual([worker.result(id)["n"] for id in blocked], list(range(20)))  # type: ignore[index]

    def test_more_slow_calls_than_the_concurrency_wait_for_their_turn(self) -> None:
        worker = self.start("import time\ndef handler(body):\n    time.sleep(0.05)\n    return body\n", concurrency=2)
        calls = [worker.call({"n": n}) for n in range(8)]
        self.assertEqual([worker.result(id) for id in calls], [{"n": n} for n in range(8)])

    def test_async_calls_overlap(self) -> None:
        worker = self.start("import asyncio\nasync def handler(body):\n    await asyncio.sleep(0.2)\n    return body\n")
        took = time_of(lambda: [worker.result(id) for id in [worker.call({"n": n}) for n in range(20)]])
        self.assertLess(took, 2.0)  # one after the other they would take 4 seconds


if __name__ == "__main__":
    unittest.main()
