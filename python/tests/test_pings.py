"""When the harness answers a ping, and when it does not."""

from __future__ import annotations

import queue
import signal
import unittest

from fake_worker import HarnessTest, FakeWorker
from par_harness import frames

AGENT = """
import asyncio, ctypes, time

async def handler(body):
    return body

async def block(body):
    print("blocks")
    time.sleep(body)

def wait(body):
    time.sleep(body)

def compute(body):
    while True:
        pass

def hold_interpreter(body):
    ctypes.PyDLL(None).sleep(body)
"""
PLAIN = AGENT.replace("async def handler", "def handler")
EXPORTS = [
    {"name": name, "handler": f"main:{name}", "sub_agent": False} for name in ("block", "wait", "compute", "hold_interpreter")
]


class Pings(HarnessTest):
    def answers(self, worker: FakeWorker, patience: float = 20.0) -> bool:
        worker.send(0, frames.PING, b"42")
        try:
            return worker.next_of(0, patience) == (frames.PONG, b"42")
        except queue.Empty:
            return False

    def test_an_agent_that_is_merely_busy_answers(self) -> None:
        for main in (AGENT, PLAIN):
            worker = self.start(main, exports=EXPORTS, concurrency=4)
            self.assertTrue(self.answers(worker))
            for export in ("compute", "wait", "wait", "wait", "wait"):
                worker.call(60, export)
            self.assertTrue(self.answers(worker))

    def test_a_loop_that_is_blocked_does_not(self) -> None:
        worker = self.start(AGENT, exports=EXPORTS)
        worker.call(3, "block")
        worker.wait_for_output("stdout", b"blocks")
        self.assertFalse(self.answers(worker, 1.0))
        # The answer comes once the loop has had a turn.
        self.assertEqual([worker.next_of(id)[0] for id in (0, 1)], [frames.PONG, frames.RESULT])

    def test_an_interpreter_that_is_held_does_not_and_says_where_it_hangs(self) -> None:
        worker = self.start(PLAIN, exports=EXPORTS)
        worker.call(60, "hold_interpreter")
        self.assertFalse(self.answers(worker, 1.0))
        worker.process.send_signal(signal.SIGUSR2)
        worker.wait_for_output("stderr", b"in hold_interpreter")


if __name__ == "__main__":
    unittest.main()
