"""The channel: any cut of the stream, large frames, and who may not touch it."""

from __future__ import annotations

import json
import random
import unittest

from fake_worker import HarnessTest, frames

ECHO = "def handler(body):\n    return body\n"
CLOSER = """
import os, time
def close(body):
    os.closerange(3, 4096)
def slow_close(body):
    time.sleep(0.1)
    os.closerange(3, 4096)
"""
CHILDREN = """
import os, subprocess
def handler(body):
    if body["op"] == "spawn":
        script = "ls -l /proc/self/fd; cat"
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, close_fds=False).stdout
    if body["op"] == "fork":
        pid = os.fork()
        if pid == 0:
            return "the child must not answer"
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return os.readlink("/proc/self/fd/0")
"""


class Stream(HarnessTest):
    def test_a_flood_of_calls_survives_any_cut(self) -> None:
        worker = self.start(ECHO)
        chance = random.Random(1)
        bodies = [{"n": n, "text": "x" * chance.choice((0, 1, 50, 3_000))} for n in range(300)]
        wire, ids = b"", []
        for body in bodies:
            ids.append(worker.new_id())
            wire += frames.frame(ids[-1], frames.CALL, frames.with_head(b"", json.dumps(body).encode()))
        at = 0
        while at < len(wire):
            size = chance.choice((1, 2, 8, 9, 10, 500, 70_000))
            worker.channel.sendall(wire[at : at + size])
            at += size
        self.assertEqual([worker.result(id) for id in ids], bodies)

    def test_every_single_byte_may_come_alone(self) -> None:
        worker = self.start(ECHO)
        wire = frames.frame(1, frames.CALL, frames.with_head(b"", b"[1]"))
        for byte in wire + wire.replace(b"\0\0\0\1", b"\0\0\0\2"):
            worker.channel.sendall(bytes([byte]))
        self.assertEqual((worker.result(1), worker.result(2)), ([1], [1]))

    def test_bodies_of_many_megabytes_pass_while_other_calls_are_answered(self) -> None:
        worker = self.start(ECHO)
        large = "x" * 5_000_000
        ids = [worker.call(large), worker.call(1), worker.call(large), worker.call(2)]
        self.assertEqual([worker.result(id) for id in ids], [large, 1, large, 2])

    def test_a_frame_that_announces_too_much_ends_the_process(self) -> None:
        worker = self.start(ECHO)
        worker.channel.sendall(frames.HEADER.pack(frames.MAX_BODY + 1, 1, frames.CALL))
        self.assertNotEqual(worker.process.wait(20), None)

    def test_the_process_ends_with_its_worker(self) -> None:
        worker = self.start("import atexit\natexit.register(print, 'at exit')\n" + ECHO)
        worker.channel.shutdown(2)
        self.assertEqual(worker.process.wait(20), 1)
        worker.wait_for_output("stdout", b"at exit")
        worker.wait_for_output("stderr", b"par_harness: the channel to the worker is gone\n")

    def test_an_agent_that_closes_its_channel_fails(self) -> None:
        for handler in ("close", "slow_close"):
            with self.subTest(handler=handler):
                worker = self.start(CLOSER, entrypoint=f"main:{handler}")
                worker.call({})
                self.assertEqual(worker.process.wait(20), 1)
                worker.wait_for_output("stderr", b"par_harness: the channel to the worker is gone\n")

    def test_an_agent_that_closes_low_descriptors_keeps_its_channel(self) -> None:
        worker = self.start("import os\ndef handler(body):\n    os.closerange(3, 256)\n    return body\n")
        self.assertEqual([worker.ask(n) for n in range(3)], [0, 1, 2])
        self.assertEqual(worker.stop(), 0)


class Privacy(HarnessTest):
    def test_standard_input_is_empty_and_children_do_not_inherit_the_channel(self) -> None:
        worker = self.start(CHILDREN)
        self.assertEqual(worker.ask({"op": "stdin"}), "/dev/null")
        self.assertNotIn("socket", worker.ask({"op": "spawn"}))

    def test_a_forked_child_that_returns_from_the_handler_says_nothing(self) -> None:
        worker = self.start(CHILDREN)
        for _ in range(3):
            self.assertEqual(worker.ask({"op": "fork"}), 0)
        self.assertEqual(worker.stop(), 0)


if __name__ == "__main__":
    unittest.main()
