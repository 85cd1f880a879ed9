"""What can be imported from where, and what the worker hears when an agent cannot be loaded."""

from __future__ import annotations

import os
import sys
import unittest

from fake_worker import FakeWorker, HarnessTest


class Imports(HarnessTest):
    def answer(self, files: dict[str, str], **load: object) -> object:
        worker = self.launch(files, **load)
        worker.ready()
        return worker.ask({})

    def test_the_package_its_src_and_its_a2a_folder_are_importable(self) -> None:
        files = {
            "main.py": "import inner, stub\nfrom src.inner import N\ndef handler(body): return [N, inner.N, stub.N]\n",
            "src/inner.py": "N = 1\n",
            "src/a2a/stub.py": "N = 2\n",
        }
        self.assertEqual(self.answer(files), [1, 1, 2])

    def test_nothing_in_a_package_replaces_the_standard_library_or_the_runtime(self) -> None:
        trap = "raise RuntimeError('replaced')\n"
        main = """
import json, logging, par_harness, pixell_agent_runtime.a2a_client, par_harness.event_loop
def handler(body): return "whole"
"""
        traps = ("json.py", "src/logging.py", "par_harness/__init__.py", "pixell_agent_runtime.py", "event_loop.py")
        self.assertEqual(self.answer({"main.py": main, **{name: trap for name in traps}}), "whole")

    def test_the_environment_comes_after_the_package_and_its_pth_files_count(self) -> None:
        files = {
            "main.py": "import both, dep, extra\ndef handler(body): return [both.FROM, dep.FROM, extra.FROM]\n",
            "both.py": "FROM = 'package'\n",
            "env/both.py": "FROM = 'env'\n",
            "env/dep.py": "FROM = 'env'\n",
            "env/more.pth": "../elsewhere\n",
            "elsewhere/extra.py": "FROM = 'pth'\n",
        }
        worker = FakeWorker(files, site=[])
        self.addCleanup(worker.close)
        site = [os.path.join(worker.package, "env")]
        self.assertEqual(self.answer(files, site=site), ["package", "env", "pth"])

    def test_compiled_python_of_the_package_goes_to_a_folder_of_its_own_and_no_other(self) -> None:
        worker = self.launch({"main.py": "import part.one, calendar\ndef handler(body): pass\n", "part/one.py": ""})
        worker.ready()
        self.assertEqual(sorted(os.listdir(worker.package)), ["main.py", "part"])
        self.assertEqual(os.listdir(os.path.join(worker.package, "part")), ["one.py"])
        kept = [name for _, _, names in os.walk(os.path.join(worker.root, "bytecode")) for name in names]
        tag = sys.implementation.cache_tag
        self.assertEqual(sorted(kept), [f"main.{tag}.pyc", f"one.{tag}.pyc"])

    def test_the_interpreter_looks_like_that_of_a_program(self) -> None:
        main = """
import sys, __main__, threading
MAIN = threading.current_thread() is threading.main_thread()
def handler(body): return [sys.argv, MAIN, exit is not quit, sorted(vars(__main__)), sys.stdin.read()]
"""
        answer = self.answer({"main.py": main})
        names = ["__doc__", "__loader__", "__name__", "__package__", "__spec__"]
        self.assertEqual(answer, [[""], True, True, names, ""])

    def test_a_line_is_out_before_the_process_ends(self) -> None:
        worker = self.start(
            "import time\ndef handler(body):\n    print('é now')\n    time.sleep(600)\n", env={"LC_ALL": "C"}
        )
        worker.call()
        worker.wait_for_output("stdout", "é now\n".encode())


class Failures(HarnessTest):
    def refusal(self, main: str, **load: object) -> dict:
        worker = self.launch({"main.py": main}, **load)
        failure = worker.failure(0)
        self.assertEqual(failure["kind"], "load")
        self.assertEqual(worker.process.wait(20), 1)
        return failure

    def test_a_module_that_is_not_there(self) -> None:
        failure = self.refusal("", entrypoint="src.nope:handler")
        self.assertEqual(failure["detail"], "cannot import `src.nope`: No module named 'src'")

    def test_a_module_that_raises(self) -> None:
        failure = self.refusal("def f():\n    return 1 / 0\nf()\n")
        self.assertEqual(failure["detail"], "cannot import `main`: ZeroDivisionError: division by zero")
        self.assertIn('main.py", line 2, in f', failure["traceback"])
        self.assertNotIn("par_harness", failure["traceback"])

    def test_a_module_that_exits_or_is_not_python(self) -> None:
        self.assertEqual(self.refusal("raise SystemExit(3)")["detail"], "cannot import `main`: SystemExit: 3")
        self.assertIn("SyntaxError", self.refusal("def handler(:")["detail"])

    def test_an_attribute_that_is_missing_or_not_callable(self) -> None:
        self.assertIn("entrypoint `main:handler`: main has no `handler`", self.refusal("x = 1")["detail"])
        self.assertEqual(self.refusal("handler = 1")["detail"], "entrypoint `main:handler` is not callable (int)")

    def test_an_adapter_that_cannot_be_made(self) -> None:
        main = "class PixellAdapter:\n    def __init__(self):\n        raise ValueError('no backend')\n"
        failure = self.refusal(main)
        self.assertEqual(failure["detail"], "cannot make a PixellAdapter: ValueError: no backend")
        self.assertIn("main.py", failure["traceback"])

    def test_exports_and_surfaces_that_do_not_resolve(self) -> None:
        handler = "def handler(body): pass\nx = 1\n"
        export = {"name": "a", "handler": "main:nope", "sub_agent": False}
        self.assertIn("handler of export `a` `main:nope`", self.refusal(handler, exports=[export])["detail"])
        self.assertEqual(
            self.refusal(handler, asgi_app="main:x")["detail"], "ASGI application `main:x` is not callable (int)"
        )
        self.assertIn(
            "needs FastAPI", self.refusal("def mount(app): pass", entrypoint=None, rest_entry="main:mount")["detail"]
        )


if __name__ == "__main__":
    unittest.main()
