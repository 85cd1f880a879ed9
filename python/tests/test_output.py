"""What calls print, and whose it is."""

from __future__ import annotations

import re
import unittest
from typing import Any

from fake_worker import HarnessTest

MARK = "0123456789abcdef"
BEFORE, AFTER = "\x1e" + MARK + ":", "\x1f"


def by_call(text: str) -> dict[int, str]:
    """What each call wrote, pieces joined; 0 wrote what has no mark."""
    said: dict[int, str] = {}
    owner = 0
    for piece in re.split(f"({BEFORE}\\d+{AFTER})", text):
        marked = re.fullmatch(f"{BEFORE}(\\d+){AFTER}", piece)
        if marked:
            owner = int(marked[1])
        elif piece:
            said[owner] = said.get(owner, "") + piece
    return said


class Output(HarnessTest):
    def said(self, stream: str, until: str) -> dict[int, str]:
        self.worker.wait_for_output(stream, until.encode())
        return by_call(self.worker.output[stream].decode(errors="replace"))

    def start_marked(self, main: str, **load: Any) -> None:
        self.worker = self.start(main, mark=MARK, **load)

    def test_what_a_call_prints_is_marked_and_what_others_write_is_not(self) -> None:
        self.start_marked(
            "import os, sys, threading\n"
            "print('loading')\n"
            "def handler(body):\n"
            "    print('mine')\n"
            "    os.write(1, b'raw\\n')\n"
            "    print('trouble', file=sys.stderr)\n"
            "    thread = threading.Thread(target=print, args=('of a thread',))\n"
            "    thread.start(); thread.join()\n"
            "    print('end')\n"
        )
        first = self.worker.call({})
        self.worker.result(first)
        said = self.said("stdout", "end")
        self.assertEqual(said[first], "mine\nend\n")
        self.assertEqual(said[0], "loading\nraw\nof a thread\n")
        self.assertEqual(self.said("stderr", "trouble")[first], "trouble\n")

    def test_calls_that_overlap_in_threads_and_in_the_loop_keep_their_lines(self) -> None:
        self.start_marked(
            "import asyncio, time\n"
            "def sync(body):\n"
            "    for step in range(50):\n"
            "        print('sync', body['n'], step); time.sleep(0.001)\n"
            "async def handler(body):\n"
            "    for step in range(50):\n"
            "        print('async', body['n'], step); await asyncio.sleep(0.001)\n"
            "    print('done', body['n'])\n",
            exports=[{"name": "sync", "handler": "main:sync", "sub_agent": False}],
        )
        calls = {self.worker.call({"n": n}): ("async", n) for n in range(2)}
        calls.update({self.worker.call({"n": n}, export="sync"): ("sync", n) for n in range(2, 4)})
        for id in calls:
            self.worker.result(id)
        said = self.said("stdout", "done 1")
        for id, (kind, n) in calls.items():
            lines = [f"{kind} {n} {step}" for step in range(50)]
            self.assertEqual([line for line in said[id].splitlines() if not line.startswith("done")], lines)

    def test_parts_of_lines_and_bytes_come_when_they_are_flushed(self) -> None:
        self.start_marked(
            "import sys\n"
            "def handler(body):\n"
            "    print('part', end='', flush=True)\n"
            "    sys.stdout.buffer.write(b' \\xff\\x00 ')\n"
            "    sys.stdout.buffer.flush()\n"
            "    print('whole')\n"
            "    sys.stdout.buffer.write(bytearray(b'x' * 100000))\n"
            "    print()\n"
            "    print(sys.stdout.fileno(), sys.stdout.buffer.name, sys.stdout.isatty(), file=sys.stderr)\n"
        )
        call = self.worker.call({})
        self.worker.result(call)
        self.assertEqual(self.said("stdout", "\x1f\n")[call], "part \ufffd\x00 whole\n" + "x" * 100000 + "\n")
        self.assertEqual(self.said("stderr", "False")[call], "1 <stdout> False\n")

    def test_a_traceback_is_the_calls(self) -> None:
        self.start_marked("def handler(body):\n    1 / 0\n")
        call = self.worker.call({})
        self.worker.failure(call)
        self.assertIn("ZeroDivisionError", self.said("stderr", "division by zero\n")[call])

    def test_a_signal_handler_and_a_forked_child_may_print(self) -> None:
        self.start_marked(
            "import os, signal, threading\n"
            "def handler(body):\n"
            "    print('kept', end='')\n"
            "    child = os.fork()\n"
            "    if child == 0:\n"
            "        os.write(1, b'in the child\\n')\n"
            "        os._exit(0)\n"
            "    os.waitpid(child, 0)\n"
            "    print(' and written')\n"
        )
        call = self.worker.call({})
        self.worker.result(call)
        said = self.said("stdout", "written")
        self.assertEqual((said[call], said[0]), ("kept and written\n", "in the child\n"))

    def test_a_program_says_its_errors_in_the_name_of_its_call(self) -> None:
        self.start_marked(
            "import sys\ndef main():\n    print('trouble', file=sys.stderr)\n    print('{}')\n", entrypoint="main:main"
        )
        call = self.worker.call({})
        self.assertEqual(self.worker.result(call), {})
        self.assertEqual(self.said("stderr", "trouble")[call], "trouble\n")


if __name__ == "__main__":
    unittest.main()
