"""Whatever code does to its process, its next run finds it whole."""

from __future__ import annotations

import time
import unittest

from session_worker import SessionTest, SessionWorker


class Interrupts(SessionTest):
    def interrupted(self, code: str) -> SessionWorker:
        worker = self.start()
        worker.run("state = [1]")
        id = worker.begin("state.append(2)\nprint('begun')\n" + code)
        worker.wait_for_output("stdout", b"begun")
        begin = time.monotonic()
        worker.interrupt()
        result = worker.result(id)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual((result.ok, result.kind), (False, "interrupted"))
        self.assertEqual(result.error, "RunInterrupted: the run was interrupted")
        self.assertNotIn("par_session", result.traceback)
        self.assertEqual(worker.value("state"), [1])
        return worker

    def test_streams_that_were_closed_with_their_descriptors_are_opened_again(self) -> None:
        for close in (
            "import sys, os\nsys.stdout.close()\nos.close(1)",
            "import sys, os\nsys.stdin.close()\nos.close(0)",
            "import sys, os\nsys.stdout.reconfigure(encoding='latin1')\nos.close(1)",
        ):
            with self.subTest(close=close):
                worker = self.start()
                self.assertTrue(worker.run("kept = 1\n" + close).ok)
                self.assertEqual(worker.value("print('é')\nkept"), 1)

    def test_whatever_a_run_does_it_is_interrupted(self) -> None:
        for code in (
            "while True: pass",
            "import time\ntime.sleep(600)",
            "import threading\nthreading.Lock().acquire() or threading.Event().wait()",
            "import subprocess\nsubprocess.run(['sleep', '600'])",
            "import asyncio\nawait asyncio.sleep(600)",
            "import asyncio\nasyncio.run(asyncio.sleep(600))",
            "import asyncio\nwhile True: await asyncio.sleep(0)",
            "while True:\n    try:\n        while True: pass\n    except Exception: pass",
            "while True: progress(1)",
            "class S:\n    def __repr__(self):\n        while True: pass\ns = S()",
        ):
            with self.subTest(code=code):
                self.interrupted(code)

    def test_an_awaiting_run_cleans_up_and_the_loop_goes_on(self) -> None:
        worker = self.start()
        id = worker.begin(
            "import asyncio\ntry:\n    print('begun')\n    await asyncio.sleep(600)\n"
            "finally:\n    await asyncio.sleep(0)\n    print('cleaned')"
        )
        worker.wait_for_output("stdout", b"begun")
        worker.interrupt()
        self.assertEqual(worker.result(id).kind, "interrupted")
        worker.wait_for_output("stdout", b"cleaned")
        self.assertEqual(worker.value("import asyncio\nawait asyncio.sleep(0, 5)"), 5)

    def test_an_awaiting_run_that_does_not_end_is_left_behind(self) -> None:
        worker = self.start()
        id = worker.begin(
            "import asyncio\nprint('begun')\nwhile True:\n    try: await asyncio.sleep(600)\n    except asyncio.CancelledError: pass"
        )
        worker.wait_for_output("stdout", b"begun")
        worker.interrupt()
        self.assertEqual(worker.result(id).kind, "interrupted")
        self.assertEqual(worker.value("import asyncio\nawait asyncio.sleep(0, 5)"), 5)

    def test_code_may_swallow_the_interrupt_and_go_on(self) -> None:
        worker = self.start()
        id = worker.begin("try:\n    print('begun')\n    while True: pass\nexcept KeyboardInterrupt as e:\n    x = type(e).__name__\nx")
        worker.wait_for_output("stdout", b"begun")
        worker.interrupt()
        self.assertEqual(worker.result(id).extras, {"_": "RunInterrupted"})

    def test_between_runs_it_means_nothing(self) -> None:
        worker = self.start()
        for n in range(20):
            worker.interrupt()
            self.assertEqual(worker.value(f"{n} + 1"), n + 1)
        worker.interrupt()
        self.assertEqual(worker.stop(), 0)

    def test_one_that_races_with_the_end_of_its_run_hits_no_other(self) -> None:
        worker = self.start()
        for n in range(100):
            id = worker.begin(f"for _n in range({n * 30}): pass")
            time.sleep(n * 3e-6)
            worker.interrupt()
            self.assertIn(worker.result(id).kind, ("", "interrupted"))
            self.assertEqual(worker.value("1"), 1)

    def test_a_handler_of_the_code_s_own_is_gone_in_the_next_run(self) -> None:
        worker = self.start()
        worker.run("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)")
        id = worker.begin("print('begun')\nwhile True: pass")
        worker.wait_for_output("stdout", b"begun")
        worker.interrupt()
        self.assertEqual(worker.result(id).kind, "interrupted")

    def test_children_have_the_usual_disposition(self) -> None:
        code = "import subprocess\np = subprocess.Popen(['sleep', '600'])\np.send_signal(2)\np.wait()"
        self.assertEqual(self.start().value(code), -2)


class Streams(SessionTest):
    def test_closed_or_replaced_streams_come_back(self) -> None:
        worker = self.start()
        for number, code in enumerate(
            (
                "import sys; sys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
                "import io; sys.stdout = io.StringIO(); sys.stderr = None; del sys.stdin",
                "import os; os.close(1); os.close(2)",
                "os.close(0)",
                "os.dup2(os.open('/dev/null', os.O_WRONLY), 1)",
                "sys.stdout = open(1, 'w'); sys.__stdout__ = None; del sys.stderr",
                "sys.stdout = open(1, 'w'); sys.stdout.close()",
                "os.set_blocking(1, False)",
                "os.closerange(3, 256)",
                "sys.stdout.reconfigure(encoding='ascii', errors='strict')",
                "sys.stdout.reconfigure(write_through=False, line_buffering=False)",
                "sys.stdout.detach()",
                "sys.stderr.buffer.close()",
                "class Broken:\n    def flush(self): raise SystemExit\nsys.stdout = Broken()",
            )
        ):
            with self.subTest(code=code):
                self.assertTrue(worker.run(code).ok)
                result = worker.run(f"import os, sys\nprint('é out{number}.')\nsys.stderr.write('err{number}.')\nsys.stdin.read()")
                self.assertEqual(result.extras, {"_": ""}, result)
                worker.wait_for_output("stdout", f"é out{number}.".encode())
                worker.wait_for_output("stderr", f"err{number}.".encode())

    def test_a_buffered_stream_of_its_own_is_flushed(self) -> None:
        worker = self.start()
        worker.run("import sys\nsys.stdout = open(1, 'w', closefd=False)\nprint('kept back')")
        worker.wait_for_output("stdout", b"kept back\n")


class Forks(SessionTest):
    def test_a_child_that_returns_from_the_code_says_nothing(self) -> None:
        worker = self.start()
        code = (
            "import os\nprint('once', end='')\npid = os.fork()\n"
            "if pid: x = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\nelse: progress(1); print('child')\n%s\nx"
        )
        result = worker.run(code % "x = x if pid else 0")
        self.assertEqual(result.extras, {"_": 0})
        for ending, status in (("if not pid: raise SystemExit(3)", 3), ("if not pid: 1/0", 1)):
            self.assertEqual(worker.value(code % ending), status)
        worker.wait_for_output("stderr", b"ZeroDivisionError")
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(worker.output["stdout"].count(b"child"), 3)
        self.assertEqual(worker.output["stdout"].count(b"once"), 3)

    def test_a_child_that_returns_while_its_parent_awaits(self) -> None:
        worker = self.start()
        code = "import asyncio, os\npid = os.fork()\nawait asyncio.sleep(0)\nos.waitpid(pid, 0)[1] if pid else None"
        self.assertEqual(worker.value(code), 0)

    def test_multiprocessing_by_fork_and_threads_work(self) -> None:
        worker = self.start()
        self.assertEqual(
            worker.value(
                "import multiprocessing\nfrom concurrent.futures import ThreadPoolExecutor\n"
                "def double(n):\n    progress(n)\n    return 2 * n\n"
                "with multiprocessing.get_context('fork').Pool(2) as pool: a = pool.map(double, [1, 2])\n"
                "with ThreadPoolExecutor(2) as pool: b = list(pool.map(lambda n: n + 1, a))\na, b"
            ),
            [[2, 4], [3, 5]],
        )

    def test_the_namespace_is_the_main_module(self) -> None:
        worker = self.start()
        self.assertEqual(worker.value("import pickle\nclass A: n = 1\npickle.loads(pickle.dumps(A())).n, __name__"), [1, "__main__"])
        worker.run("import sys\ndel sys.modules['__main__']\n__name__ = 'x'\n__builtins__ = {}")
        self.assertEqual(worker.value("import __main__\n__main__.A.n, __name__"), [1, "__main__"])

    def test_children_do_not_have_the_channel(self) -> None:
        worker = self.start()
        listing = worker.value("import subprocess\nsubprocess.run('ls -l /proc/self/fd', shell=True, close_fds=False, capture_output=True, text=True).stdout")
        self.assertNotIn("socket", listing)


class Patches(SessionTest):
    def test_replaced_builtins_do_not_reach_us(self) -> None:
        worker = self.start()
        names = worker.value(
            "import builtins\n"
            "def broken(*a, **k): raise RuntimeError('patched')\n"
            "keep = ('__build_class__', '__name__', '__doc__', '__spec__', '__loader__', '__import__', 'broken')\n"
            "names = [n for n in vars(builtins) if n not in keep and not isinstance(getattr(builtins, n), type)]\n"
            "builtins.__dict__.update(dict.fromkeys(names + ['__import__'], broken))\n"
            "names.__len__()"
        )
        self.assertGreater(names, 30)
        self.assertEqual(worker.value("x = {1}\ny = object()\nz = [1, 2]\nz"), [1, 2])
        result = worker.run("z.append(1)\n1/0")
        self.assertEqual((result.kind, result.error), ("raised", "ZeroDivisionError: division by zero"))
        self.assertEqual(worker.run("z =").kind, "compile")
        self.assertEqual(worker.run("print(1)").error, "RuntimeError: patched")
        self.assertEqual(worker.value("z", context={"c": 1}), [1, 2])
        self.assertEqual(worker.stop(), 0)

    def test_replaced_builtin_types_do_not_reach_us(self) -> None:
        worker = self.start()
        worker.run("import builtins\nfor name in ('dict', 'list', 'str', 'type', 'bytes', 'tuple', 'int', 'Exception', 'BaseException', 'any'): setattr(builtins, name, None)")
        self.assertEqual(worker.value("[1, {'a': 'b'}]"), [1, {"a": "b"}])
        self.assertEqual(worker.run("1/0").error, "ZeroDivisionError: division by zero")

    def test_replaced_functions_of_the_standard_library_do_not_reach_us(self) -> None:
        worker = self.start()
        worker.run(
            "import os, sys, time, signal, resource, fcntl, struct, traceback, linecache, _json\n"
            "for module in (os, time, signal, resource, fcntl, struct, traceback, linecache, _json):\n"
            "    for name in list(vars(module)):\n"
            "        if callable(getattr(module, name)) and name != 'fspath': setattr(module, name, None)\n"
            "linecache.cache = None\n"
        )
        self.assertEqual(worker.value("1 + 1"), 2)
        self.assertEqual(worker.run("1/0").error, "ZeroDivisionError: division by zero")
        self.assertEqual(worker.stop(), 0)

    def test_modules_that_are_gone_do_not_matter(self) -> None:
        worker = self.start()
        worker.run("import sys\nfor name in list(sys.modules):\n    if name not in ('sys', 'builtins'): del sys.modules[name]")
        self.assertEqual(worker.value("x = [1]\nx"), [1])
        self.assertFalse(worker.run("1/0").ok)
        self.assertEqual(worker.value("x"), [1])

    def test_limits_of_the_interpreter_are_reset(self) -> None:
        worker = self.start()
        limits = "import sys\n[sys.getrecursionlimit(), sys.getswitchinterval(), sys.gettrace()]"
        usual = worker.value(limits)
        worker.run("sys.setrecursionlimit(60); sys.setswitchinterval(1)")
        self.assertEqual(worker.value(limits), usual)
        worker.run("def broken(*a): raise ValueError\nsys.setprofile(broken)")
        worker.run("def broken(*a): raise ValueError\nsys.settrace(broken)")
        self.assertEqual(worker.value(limits), usual)

    def test_recursion_warnings_and_open_generators_are_survived(self) -> None:
        worker = self.start()
        self.assertIn("RecursionError", worker.run("def f(): return f()\nf()").error)
        worker.run("import warnings\nwarnings.simplefilter('error')\nwarnings.showwarning = None")
        self.assertTrue(worker.run("'\\d'\n1 is 1").kind in ("", "compile"))
        worker.run("def g():\n    try:\n        yield 1\n    finally:\n        1/0\nopen_one = g()\nnext(open_one)")
        self.assertEqual(worker.value("del open_one\n5"), 5)


if __name__ == "__main__":
    unittest.main()
