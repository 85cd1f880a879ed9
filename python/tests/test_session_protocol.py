"""The frames: load, ready, calls, progress under credit, stop; and how little is loaded before the first run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import unittest

from session_worker import Ended, SessionTest, SessionWorker, frames, msgpack

# What has no business in a session that has run nothing.
TOO_EARLY = (
    "ast asyncio collections contextlib dataclasses enum functools importlib inspect io_open json linecache logging "
    "pickle random re reprlib signal site socket subprocess tempfile threading tokenize traceback types typing warnings"
).split()


class Life(SessionTest):
    def test_little_is_imported_before_the_first_run(self) -> None:
        # 3.13 brings `linecache` itself.
        command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", "import sys; print(*sys.modules)"]
        bare = subprocess.check_output(command, text=True).split()
        loaded = self.start().value("import sys\nlist(sys.modules)")
        self.assertEqual([name for name in TOO_EARLY if name in loaded and name not in bare], [])

    def test_the_folder_is_where_code_runs(self) -> None:
        worker = self.start()
        self.assertEqual(worker.value("import os\nos.getcwd()"), os.path.realpath(worker.folder))

    def test_stop_runs_exit_functions_and_ends_well(self) -> None:
        worker = self.start()
        worker.run("import atexit, sys\natexit.register(print, 'at exit')\natexit.register(sys.exit, 5)\natexit.register(lambda: 1/0)")
        self.assertEqual(worker.stop(), 0)
        worker.wait_for_output("stdout", b"at exit\n")

    def test_the_process_ends_with_its_worker(self) -> None:
        worker = self.start()
        worker.channel.shutdown(2)
        self.assertEqual(worker.process.wait(20), 1)

    def test_a_load_that_is_none_is_refused(self) -> None:
        for load in ({"folder": "/nonexistent"}, {"result_bytes": "many"}):
            worker = SessionWorker(**load)
            self.addCleanup(worker.close)
            self.assertEqual(worker.process.wait(20), 1)
            worker.wait_for_output("stderr", b"par_session: cannot load: ")
            with self.assertRaises(Ended):
                worker.ready()

    def test_a_frame_that_announces_too_much_ends_the_process(self) -> None:
        worker = self.start()
        worker.channel.sendall(frames.HEADER.pack(frames.MAX_BODY + 1, 1, frames.CALL))
        self.assertEqual(worker.process.wait(20), 1)

    def test_calls_are_answered_in_order_whatever_their_cut(self) -> None:
        worker = self.start()
        wire = b"".join(
            frames.frame(id, frames.CALL, msgpack.encode({"code": f"{id}", "context": {"t": msgpack.encode("x" * size)}}))
            for id, size in ((1, 0), (2, 70_000), (3, 0), (4, 3_000_000), (5, 1))
        )
        at = 0
        for size in (1, 8, 9, 10, 60_000, 1_000_000, len(wire)):
            worker.channel.sendall(wire[at : at + size])
            at += size
        for id in range(1, 6):
            self.assertEqual(worker.result(id).extras, {"_": id})

    def test_frames_that_mean_nothing_here_are_passed_over(self) -> None:
        worker = self.start()
        worker.send(1, frames.CANCEL)
        worker.send(7, frames.CREDIT, b"\0\0\0\1")
        self.assertEqual(worker.value("1"), 1)

    def test_a_package_and_its_environment_are_importable(self) -> None:
        for root in (True, False):
            worker = self.start_with_modules(root)
            self.assertEqual(worker.value("import dependency\ndependency.where"), "site")
            if root:
                self.assertEqual(worker.value("import helper, deep, stub\nhelper.x, deep.x, stub.x"), [1, 2, 3])
                self.assertEqual(worker.value("import json\njson.dumps(1)"), "1")

    def start_with_modules(self, root: bool) -> SessionWorker:
        import shutil
        import tempfile

        folder = tempfile.mkdtemp(prefix="par-session-test-")
        self.addCleanup(shutil.rmtree, folder)
        for path, text in (
            ("package/helper.py", "x = 1"),
            ("package/json.py", "1/0"),
            ("package/src/deep.py", "x = 2"),
            ("package/src/a2a/stub.py", "x = 3"),
            ("site/dependency.py", "where = 'site'"),
        ):
            os.makedirs(os.path.dirname(f"{folder}/{path}"), exist_ok=True)
            with open(f"{folder}/{path}", "w", encoding="utf-8") as file:
                file.write(text)
        return self.start(root=f"{folder}/package" if root else None, site=[f"{folder}/site"], bytecode=f"{folder}/bytecode")


class Progress(SessionTest):
    def chunks(self, worker: SessionWorker, id: int) -> list[dict]:
        """All that comes before the result, which has to be a success."""
        found = []
        while True:
            kind, frame_id, body = worker.next_frame()
            self.assertEqual(frame_id, id)
            if kind == frames.RESULT:
                self.assertTrue(msgpack.decode(body)["ok"], body)
                return found
            self.assertEqual((kind, body[0]), (frames.CHUNK, 0))
            found.append(json.loads(body[1:]))

    def test_progress_comes_before_the_result(self) -> None:
        worker = self.start()
        id = worker.begin(
            "progress(0.5)\nprogress(1, 'done \"é\"\\n')\nprogress()\nprogress(float('nan'))\nprogress(message='\\ud800' + 'é' * 9000)"
        )
        chunks = self.chunks(worker, id)
        self.assertEqual(chunks[0], {"value": 0.5, "message": ""})
        self.assertEqual(chunks[1], {"value": 1, "message": 'done "é"\n'})
        self.assertEqual(chunks[2], {"value": None, "message": ""})
        self.assertEqual(chunks[3], {"value": None, "message": ""})
        self.assertIn(len(chunks[4]["message"].encode()), (8191, 8192))

    def test_it_comes_from_threads_and_only_while_a_run_lasts(self) -> None:
        worker = self.start()
        code = "import threading\nt = threading.Thread(target=progress, args=(2,))\nt.start(); t.join()"
        self.assertEqual(self.chunks(worker, worker.begin(code)), [{"value": 2, "message": ""}])
        worker.run(
            "import time\n"
            "def late():\n    for n in range(3000): progress(n); time.sleep(0)\n    print('late')\n"
            "threading.Thread(target=late, daemon=True).start()"
        )
        worker.wait_for_output("stdout", b"late\n")
        self.assertEqual(worker.value("'idle'"), "idle")
        self.assertEqual(worker.stop(), 0)
        with self.assertRaises(Ended):
            self.fail(worker.next_frame())

    def test_without_credit_it_is_lost_and_with_it_it_is_not(self) -> None:
        worker = self.start()
        message = "x" * 1_000
        id = worker.begin(
            f"import os, time\nfor n in range(500):\n    progress(n, '{message}'); time.sleep(0.0002)\n"
            "progress(-3)\nopen('flooded', 'w').close()\n"
            "while not os.path.exists('granted'): pass\n"
            f"progress(-1)\nprogress(-4, '{message}')\nprogress(-2)"
        )
        while not os.path.exists(f"{worker.folder}/flooded"):
            time.sleep(0.001)
        worker.send(id, frames.CREDIT, (200).to_bytes(4, "big"))
        worker.send(id + 1, frames.CREDIT, (1 << 20).to_bytes(4, "big"))
        open(f"{worker.folder}/granted", "w").close()
        found = self.chunks(worker, id)
        large = [chunk["value"] for chunk in found if chunk["message"]]
        self.assertTrue(100 < len(large) <= (256 << 10) // 1_000)
        self.assertEqual(large, sorted(set(large)))
        self.assertEqual([chunk["value"] for chunk in found][-2:], [-1, -2])

    def test_what_else_arrives_meanwhile_is_kept(self) -> None:
        worker = self.start()
        id = worker.begin("import os\nwhile not os.path.exists('sent'): pass\nfor n in range(3): progress(n)")
        following = worker.begin("'next'")
        worker.send(0, frames.STOP)
        open(f"{worker.folder}/sent", "w").close()
        self.assertEqual(len(self.chunks(worker, id)), 3)
        self.assertEqual(worker.result(following).extras, {"_": "next"})
        self.assertEqual(worker.process.wait(20), 0)

    def test_a_worker_that_does_not_read_holds_up_nothing(self) -> None:
        worker = self.start()
        # Our reading thread reads, so the flood is larger than any socket's buffer could ever be behind its credit.
        id = worker.begin("import time\nbegin = time.monotonic()\nfor n in range(20_000): progress(n)\ntime.monotonic() - begin < 10")
        self.assertTrue(self.chunks(worker, id))


if __name__ == "__main__":
    unittest.main()
