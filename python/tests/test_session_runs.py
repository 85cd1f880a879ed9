"""One run: its value, its output, its variables, and what is said when it fails."""

from __future__ import annotations

import time
import unittest

from session_worker import SessionTest


class Values(SessionTest):
    def test_the_last_expression_is_the_value_of_a_run(self) -> None:
        worker = self.start()
        for code, value in (
            ("1 + 1", 2),
            ("x = 4\nx * 2", 8),
            ("'text'", "text"),
            ("[1, (2, 3), {'a': None}]", [1, [2, 3], {"a": None}]),
            ("{1, 2}", "{1, 2}"),
            ("int", "<class 'int'>"),
        ):
            with self.subTest(code=code):
                self.assertEqual(worker.run(code).extras, {"_": value})

    def test_a_run_without_a_value_returns_none(self) -> None:
        worker = self.start()
        for code in ("", "# nothing", "x = 1", "None", "print(end='')", "if True:\n    5", "5;x=1"):
            with self.subTest(code=code):
                result = worker.run(code)
                self.assertTrue(result.ok, result)
                self.assertEqual(result.extras, {})

    def test_the_last_value_stays_as_in_a_prompt(self) -> None:
        worker = self.start()
        worker.run("6 * 7")
        worker.run("y = 1")
        self.assertEqual(worker.value("_ + y"), 43)

    def test_variables_of_each_kind(self) -> None:
        worker = self.start()
        result = worker.run(
            "import os, collections\n"
            "a, b, c, d, e, f = None, True, 1, 2.5, 't', b'b'\n"
            "g = [1, [2]]; h = {'k': 1, 2: 'v', 2.5: b'', False: None, b'k': []}\n"
            "i = (1, 2); j = bytearray(b'ba'); k = {3}; l = 1 << 70; m = '\\ud800'\n"
            "n = collections.OrderedDict(a=1); o = lambda: 0; p = {(1, 2): 3}\n"
            "q = {None: 1}; r = [{1}]\n"
            "_hidden = 1; files = []\n"
        )
        self.assertTrue(result.ok, result)
        variables = result.variables
        self.assertTrue(variables.pop("o").startswith("<function <lambda> at 0x"))
        self.assertEqual(
            variables,
            {
                "a": None,
                "b": True,
                "c": 1,
                "d": 2.5,
                "e": "t",
                "f": b"b",
                "g": [1, [2]],
                "h": {"k": 1, 2: "v", 2.5: b"", False: None, b"k": []},
                "i": [1, 2],
                "j": b"ba",
                "k": "{3}",
                "l": str(1 << 70),
                "m": "'\\ud800'",
                "n": {"a": 1},
                "p": "{(1, 2): 3}",
                "q": "{None: 1}",
                "r": "[{1}]",
            },
        )
        self.assertEqual(sorted(result.opaque), list("ijklmnopqr"))

    def test_derived_classes_are_returned_as_what_they_derive_from_without_asking_them(self) -> None:
        worker = self.start()
        result = worker.run(
            "import enum, collections\n"
            "class Lies(dict):\n"
            "    def items(self): raise RuntimeError\n"
            "    def __len__(self): return 99\n"
            "class Colour(str, enum.Enum):\n"
            "    RED = 'red'\n"
            "class Level(enum.IntEnum):\n"
            "    HIGH = 3\n"
            "Point = collections.namedtuple('Point', 'x y')\n"
            "lies, red, high, point = Lies(a=1), Colour.RED, Level.HIGH, Point(1, 2)\n"
            "del enum, collections\n"
        )
        for name, value in (("lies", {"a": 1}), ("red", "red"), ("high", 3), ("point", [1, 2])):
            self.assertEqual(result.variables[name], value)
            self.assertIn(name, result.opaque)

    def test_what_has_a_broken_repr_is_named(self) -> None:
        worker = self.start()
        result = worker.run(
            "class A:\n    def __repr__(self): raise ValueError('x')\n"
            "class B:\n    def __repr__(self): return 3\n"
            "class C:\n    def __repr__(self): return repr([self])\n"
            "class D:\n    def __repr__(self): raise SystemExit\n"
            "class E:\n    def __getattribute__(self, name): raise KeyError(name)\n"
            "class M(type):\n    def __eq__(self, other): return True\n    def __getattribute__(self, name): raise 1\n"
            "class F(metaclass=M): pass\n"
            "a, b, c, d, e, f = A(), B(), C(), D(), E(), F()\n"
        )
        self.assertTrue(result.ok, result)
        self.assertEqual(result.variables["a"], "<A object whose repr raised ValueError>")
        self.assertEqual(result.variables["b"], "<B object whose repr raised TypeError>")
        self.assertEqual(result.variables["c"], "<C object whose repr raised RecursionError>")
        self.assertEqual(result.variables["d"], "<D object whose repr raised SystemExit>")
        self.assertIn("E object", result.variables["e"])
        self.assertIn("f", result.variables)

    def test_what_is_too_deep_or_contains_itself_is_shown_not_returned(self) -> None:
        worker = self.start()
        result = worker.run(
            "a = []; a.append(a); a.append(a)\nb = {}; b['b'] = b\nc = []\nfor _n in range(100): c = [c]\n"
            "d = []\nfor _n in range(62): d = [d]\n"
        )
        self.assertEqual(sorted(result.opaque), ["a", "b", "c"])
        self.assertIn("...", result.variables["a"])
        self.assertIsInstance(result.variables["d"], list)

    def test_long_reprs_are_cut(self) -> None:
        worker = self.start()
        result = worker.run(
            "class A:\n    def __repr__(self): return 'é' * 100_000\na = A()\nb = {object() for _ in range(5000)}\nc = 10 ** 5000"
        )
        for name in ("a", "b"):
            self.assertLessEqual(len(result.variables[name].encode()), 4096)
            self.assertTrue(result.variables[name].endswith("…"))

    def test_zero_and_none_exit_codes_are_success(self) -> None:
        worker = self.start()
        for code in ("import sys\nx = 1\nsys.exit()", "exit(0)", "raise SystemExit(None)"):
            with self.subTest(code=code):
                self.assertTrue(worker.run(code).ok)
        self.assertEqual(worker.value("x"), 1)


class Awaiting(SessionTest):
    def test_await_works_at_the_top_level_and_the_loop_stays(self) -> None:
        worker = self.start()
        self.assertEqual(worker.value("import asyncio\nawait asyncio.sleep(0, 'slept')"), "slept")
        worker.run(
            "queue = asyncio.Queue()\nasync def feed():\n    await queue.put(5)\ntask = asyncio.create_task(feed()) if 0 else None\n"
            "await asyncio.sleep(0)\nfirst = asyncio.get_running_loop()"
        )
        self.assertEqual(worker.value("task = asyncio.ensure_future(feed())\nawait queue.get()"), 5)
        self.assertIs(worker.value("await asyncio.sleep(0)\nasyncio.get_running_loop() is first"), True)
        self.assertEqual(worker.value("x = await asyncio.sleep(0, 3)\nx + 1"), 4)
        self.assertEqual(worker.value("async with asyncio.Lock():\n    y = 1\ny"), 1)

    def test_async_main_programs_run_before_and_after(self) -> None:
        worker = self.start()
        main = "import asyncio\nasync def main():\n    return 7\nasyncio.run(main())"
        self.assertEqual(worker.value(main), 7)
        self.assertEqual(worker.value("await main()"), 7)
        self.assertEqual(worker.value(main), 7)

    def test_asyncio_subprocesses_work(self) -> None:
        worker = self.start()
        self.assertEqual(
            worker.value(
                "import asyncio\n"
                "p = await asyncio.create_subprocess_exec('echo', 'hi', stdout=asyncio.subprocess.PIPE)\n"
                "(await p.communicate())[0]"
            ),
            b"hi\n",
        )

    def test_failures_in_awaited_code_show_the_code_s_own_frames(self) -> None:
        worker = self.start()
        result = worker.run("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    1/0\nawait f()")
        self.assertEqual((result.kind, result.error), ("raised", "ZeroDivisionError: division by zero"))
        self.assertIn("    await f()", result.traceback)
        self.assertNotIn("asyncio", result.traceback)
        self.assertEqual(worker.value("import asyncio\nawait asyncio.sleep(0, 1)"), 1)
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(worker.output["stderr"], b"")


class Failures(SessionTest):
    def test_kinds_and_lines(self) -> None:
        worker = self.start()
        for code, kind, error in (
            ("1/0", "raised", "ZeroDivisionError: division by zero"),
            ("raise ValueError", "raised", "ValueError"),
            ("raise ValueError('two\\nlines')", "raised", "ValueError: two lines"),
            ("import sys\nsys.exit(3)", "raised", "SystemExit: 3"),
            ("exit('bye')", "raised", "SystemExit: bye"),
            ("raise KeyboardInterrupt", "raised", "KeyboardInterrupt"),
            ("raise MemoryError", "memory", "MemoryError"),
            ("x = bytearray(1 << 60)", "memory", "MemoryError"),
            ("def f(): f()\nf()", "raised", "RecursionError: maximum recursion depth exceeded"),
            ("x =", "compile", "SyntaxError: invalid syntax (<session "),
            ("return 1", "compile", "SyntaxError: 'return' outside function (<session "),
            ("a\0b", "compile", "Error: source code string cannot contain null bytes"),
            ("import missing_module", "raised", "ModuleNotFoundError: No module named 'missing_module'"),
        ):
            with self.subTest(code=code):
                result = worker.run(code)
                self.assertFalse(result.ok)
                self.assertEqual(result.kind, kind)
                self.assertIn(error, result.error)
                self.assertEqual((result.variables, result.extras, result.opaque), ({}, {}, []))
                self.assertIn(error.split(":")[0], result.traceback)
        self.assertEqual(worker.value("1"), 1)

    def test_a_traceback_shows_lines_of_every_run_that_takes_part_and_none_of_ours(self) -> None:
        worker = self.start()
        worker.run("def early(n):\n    return 1 / n  # the early line")
        result = worker.run("def late():\n    early(0)  # the late line\nlate()")
        lines = result.traceback.splitlines()
        self.assertEqual(lines[0], "Traceback (most recent call last):")
        self.assertIn('  File "<session 2>", line 3, in <module>', lines)
        self.assertIn("    early(0)  # the late line", lines)
        self.assertIn('  File "<session 1>", line 2, in early', lines)
        self.assertIn("    return 1 / n  # the early line", lines)
        self.assertNotIn("par_session", result.traceback)

    def test_code_that_prints_tracebacks_sees_its_lines_and_progress_is_not_among_them(self) -> None:
        worker = self.start()
        worker.run("import traceback")
        self.assertIn("1/0  # here", worker.value("try:\n    1/0  # here\nexcept Exception:\n    t = traceback.format_exc()\nt"))
        result = worker.run("progress('half')")
        self.assertEqual(result.kind, "raised")
        self.assertNotIn("par_session", result.traceback)

    def test_causes_are_told(self) -> None:
        result = self.start().run("try:\n    {}['a']\nexcept KeyError as e:\n    raise RuntimeError('b') from e")
        self.assertIn("KeyError: 'a'", result.traceback)
        self.assertIn("direct cause", result.traceback)

    def test_exceptions_that_cannot_be_shown_or_say_too_much_are_survived(self) -> None:
        worker = self.start()
        result = worker.run("class E(Exception):\n    def __str__(self): raise ValueError\nraise E")
        self.assertEqual((result.kind, result.error), ("raised", "E: <its message cannot be shown>"))
        result = worker.run("raise ValueError('é' * 1_000_000)")
        self.assertLessEqual(len(result.error.encode()), 4096)
        self.assertLessEqual(len(result.traceback.encode()), 64 << 10)

    def test_metrics_tell_time_and_memory(self) -> None:
        worker = self.start()
        result = worker.run("import time\ntime.sleep(0.05)\nu = time.process_time() + 0.05\nwhile time.process_time() < u: pass")
        self.assertGreater(result.wall, 0.09)
        self.assertGreater(result.cpu, 0.04)
        self.assertLess(result.cpu, result.wall + 0.05)
        small = worker.run("x = 1").memory
        self.assertGreater(small, 1 << 20)
        self.assertGreater(worker.run("b = bytearray(b'x') * (64 << 20); del b").memory, small + (50 << 20))

    def test_the_processor_time_of_children_counts(self) -> None:
        worker = self.start()
        code = "import subprocess, sys\nsubprocess.run([sys.executable, '-I', '-S', '-c', 'for n in range(2000000): pass'])"
        self.assertGreater(worker.run(code).cpu, 0.02)


class Output(SessionTest):
    def test_output_is_seen_at_once_even_without_an_end_of_line(self) -> None:
        worker = self.start()
        id = worker.begin(
            "import os, sys\nprint('on', end='')\nprint('err', end='', file=sys.stderr)\nwhile not os.path.exists('gate'): pass"
        )
        worker.wait_for_output("stdout", b"on")
        worker.wait_for_output("stderr", b"err")
        with open(f"{worker.folder}/gate", "w"):
            pass
        self.assertTrue(worker.result(id).ok)

    def test_output_comes_before_the_result_and_is_utf_8(self) -> None:
        worker = self.start()
        worker.run("import subprocess\nprint('é\\ud800')\nsubprocess.run(['echo', 'child'])")
        worker.wait_for_output("stdout", "é\\ud800\nchild\n".encode())

    def test_a_thread_may_print_after_its_run(self) -> None:
        worker = self.start()
        worker.run(
            "import threading\ngo = threading.Event()\n"
            "def late():\n    go.wait()\n    print('late')\nthreading.Thread(target=late, daemon=True).start()"
        )
        worker.run("go.set()")
        worker.wait_for_output("stdout", b"late\n")

    def test_standard_input_is_empty(self) -> None:
        worker = self.start()
        self.assertEqual(worker.run("input()").error, "EOFError: EOF when reading a line")
        self.assertEqual(worker.value("import sys\nsys.stdin.read()"), "")
        worker.run("exit()")
        self.assertEqual(worker.value("sys.stdin.read()"), "")


class Timing(SessionTest):
    def test_a_run_takes_no_time_to_speak_of(self) -> None:
        """A bound far above what is measured, so that only a change of its order fails."""
        worker = self.start()
        worker.run("x = 1")
        begin = time.perf_counter()
        for _ in range(100):
            worker.run("x += 1\nx")
        self.assertLess(time.perf_counter() - begin, 2.0)


if __name__ == "__main__":
    unittest.main()
