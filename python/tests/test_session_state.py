"""What lives between runs: failed runs are undone, and what could not be undone is told."""

from __future__ import annotations

import unittest

from session_worker import SessionTest, msgpack


class RollBack(SessionTest):
    def test_bindings_return(self) -> None:
        worker = self.start()
        worker.run("a, b, c = 1, [2], 'three'\n9")
        result = worker.run("a = 5; del b; new = 1; import json; _ = 0; c += '!'\n1/0")
        self.assertFalse(result.ok)
        result = worker.run("_")
        self.assertEqual(result.variables, {"a": 1, "b": [2], "c": "three"})
        self.assertEqual(result.extras, {"_": 9})
        self.assertEqual(worker.run("json").error, "NameError: name 'json' is not defined")

    def test_containers_return_in_place_with_all_that_shares_them(self) -> None:
        worker = self.start()
        worker.run(
            "inner = [1]\nouter = {'in': inner, 'twice': [inner, inner]}\nalias = outer\npair = (inner, {})\n"
            "raw = bytearray(b'raw')\nseen = {1, 2}"
        )
        result = worker.run(
            "inner.append(2); outer['in'] = 5; outer['twice'].clear(); alias['new'] = 1; pair[1]['x'] = 1\n"
            "raw[0:1] = b'R!'; seen.add(3); seen.discard(1)\nouter = {}\n1/0"
        )
        self.assertEqual(result.changed, [])
        self.assertTrue(worker.value("outer is alias and outer['in'] is inner is outer['twice'][1] is pair[0]"))
        self.assertEqual(
            worker.run("").variables,
            {
                "inner": [1],
                "outer": {"in": [1], "twice": [[1], [1]]},
                "alias": {"in": [1], "twice": [[1], [1]]},
                "pair": [[1], {}],
                "raw": b"raw",
                "seen": "{1, 2}",
            },
        )

    def test_the_order_of_a_dict_returns(self) -> None:
        worker = self.start()
        worker.run("d = {'a': 1, 'b': 2}")
        worker.run("d['a'] = d.pop('a')\n1/0")
        self.assertEqual(worker.value("list(d)"), ["a", "b"])

    def test_what_is_equal_but_another_object_is_put_back(self) -> None:
        worker = self.start()
        worker.run("l = [1, True, 1.0]")
        worker.run("l[:] = [1.0, 1, True]\n1/0")
        self.assertEqual(worker.value("[type(x).__name__ for x in l]"), ["int", "bool", "float"])

    def test_a_container_that_nothing_touched_stays_as_it_is_for_whoever_iterates(self) -> None:
        worker = self.start()
        worker.run("d = {1: 1, 2: 2}\nit = iter(d)\nnext(it)")
        worker.run("1/0")
        self.assertEqual(worker.value("next(it)"), 2)

    def test_deleting_everything_is_undone(self) -> None:
        worker = self.start()
        worker.run("x = 1")
        worker.run("globals().clear()\n1/0")
        self.assertEqual(worker.value("x"), 1)
        self.assertTrue(worker.run("globals().clear()").ok)
        self.assertEqual(worker.run("x").error, "NameError: name 'x' is not defined")
        self.assertEqual(worker.value("__name__, len([1])"), ["__main__", 1])

    def test_every_kind_of_failure_leaves_the_session_usable(self) -> None:
        worker = self.start()
        worker.run("n = [0]")
        for code in ("x =", "n.append(1)\n1/0", "n.append(1)\nimport sys; sys.exit(1)", "n.append(1)\nraise MemoryError"):
            self.assertFalse(worker.run(code).ok)
            self.assertEqual(worker.value("n"), [0])

    def test_a_run_that_cannot_be_returned_is_no_state_to_go_back_to(self) -> None:
        worker = self.start()
        worker.run("x = 1")
        worker.run("x = [2]")
        worker.run("x.append(3)")
        worker.run("x.append(4)\n1/0")
        self.assertEqual(worker.value("x"), [2, 3])


class Changed(SessionTest):
    def test_what_looks_different_after_a_failure_is_told(self) -> None:
        worker = self.start()
        worker.run(
            "import collections\n"
            "class P:\n    def __init__(self): self.n = 1\n    def __repr__(self): return f'P({self.n})'\n"
            "class Q: pass\n"
            "def f(): pass\n"
            "touched, same, blank, queue, calm = P(), P(), Q(), collections.deque([1]), collections.deque([1])\n"
            "counter, idle = collections.Counter('a'), collections.Counter('a')\n"
            "gen = (n for n in range(5))\nbig = 1 << 80\nfrozen = frozenset({1})\npair = (touched, 1)\nmixed = [P(), 1]\n"
            "point = 1 + 2j\ndel collections"
        )
        result = worker.run(
            "touched.n = 2; queue.append(2); counter['b'] += 1; mixed.append(5); f.x = 1; big += 1\n1/0"
        )
        self.assertEqual(result.changed, ["touched", "blank", "queue", "counter", "gen", "pair"])
        self.assertEqual(worker.value("len(mixed)"), 2)

    def test_nothing_has_changed_if_nothing_ran(self) -> None:
        worker = self.start()
        worker.run("blank = object()")
        self.assertEqual(worker.run("x =").changed, [])
        self.assertEqual(worker.run("x", context={"1": 1}).changed, [])
        self.assertEqual(worker.run("1/0").changed, ["blank"])

    def test_a_container_that_refuses_to_be_put_back_is_told(self) -> None:
        worker = self.start()
        worker.run("b = bytearray(b'1')")
        worker.run("view = memoryview(b)")
        self.assertEqual(worker.run("view[0] = 7\n1/0").changed, ["view"])
        worker.run("view.release()\ndel view")
        result = worker.run("b += b'2'\nglobal_view = memoryview(b)\nimport builtins\nbuiltins.v = global_view\n1/0")
        self.assertEqual(result.changed, ["b"])


class Budget(SessionTest):
    def test_a_value_that_does_not_fit_is_shown(self) -> None:
        worker = self.start(result_bytes=10_000)
        result = worker.run("small = 1\nlarge = list(range(100_000))\ntext = 'é' * 9_000\nlast = 2")
        self.assertEqual((result.variables["small"], result.variables["last"]), (1, 2))
        self.assertEqual(result.opaque, ["large", "text"])
        for name in result.opaque:
            self.assertTrue(result.variables[name].endswith(" … (too large to return)"), result.variables[name])
            self.assertLessEqual(len(result.variables[name].encode()), 4096)
        self.assertTrue(result.variables["large"].startswith("[0, 1, 2, "))

    def test_a_result_never_exceeds_its_limit(self) -> None:
        for limit in (0, 50, 100, 1_000, 5_000):
            worker = self.start(result_bytes=limit)
            result = worker.run("for n in range(500): globals()[f'v{n}'] = 'x' * n\nset(range(5000))")
            self.assertTrue(result.ok, result)
            self.assertLess(result.size, limit + 200)

    def test_a_million_items_are_the_most(self) -> None:
        worker = self.start(result_bytes=1 << 26)
        result = worker.run("a = [0] * 999_000\nb = [0] * 2_000\nc = [0] * 100\nd = {'k': [0] * 2_000}")
        self.assertEqual(result.opaque, ["b", "d"])
        self.assertEqual(len(result.variables["c"]), 100)

    def test_a_giant_value_costs_little(self) -> None:
        worker = self.start(result_bytes=1 << 20)
        result = worker.run("giant = [[0] * 1_000] * 100_000\nwide = {n: 0 for n in range(1_000_000)}\ntext = 'x' * (200 << 20)")
        self.assertEqual(result.opaque, ["giant", "wide", "text"])
        self.assertTrue(result.variables["wide"].startswith("{0: 0, 1: 0"))

    def test_what_is_too_large_to_be_compared_may_have_changed(self) -> None:
        worker = self.start(result_bytes=1_000)
        worker.run("import collections\na = tuple([n] for n in range(10_000))\nb = collections.deque(range(100))\ndel collections")
        self.assertEqual(worker.run("b.append(1)\n1/0").changed, ["a", "b"])

    def test_what_looks_the_same_only_because_it_is_cut_may_have_changed(self) -> None:
        worker = self.start()
        worker.run("x = [list(range(5000)), object(), [1]]")
        self.assertEqual(worker.run("x[2].append(2)\n1/0").changed, ["x"])

    def test_names_that_are_not_told_are_listed_and_undone_all_the_same(self) -> None:
        worker = self.start()
        result = worker.run("import math\n_cache = [1]\nx = 1")
        self.assertEqual(result.variables, {"x": 1})
        self.assertEqual(result.hidden, ["math", "_cache"])
        worker.run("_cache.append(2)\n_other = 1\n1/0")
        self.assertEqual(worker.value("[_cache, '_other' in globals()]"), [[1], False])

    def test_of_very_many_variables_the_first_are_told(self) -> None:
        worker = self.start()
        result = worker.run("for n in range(12_000): globals()[f'v{n}'] = n")
        self.assertEqual(len(result.variables), 10_000)
        self.assertEqual(len(result.hidden), 1_000)


class Restore(SessionTest):
    STATE = {"x": 1, "l": [1, {"a": b"b"}], "n": None}

    def test_the_state_of_an_earlier_process_is_there_first(self) -> None:
        worker = self.start()
        result = worker.run("x += y\nl[0]", restore=self.STATE, context={"y": 10})
        self.assertEqual(result.extras, {"_": 1})
        self.assertEqual(result.variables, {**self.STATE, "x": 11, "y": 10})

    def test_it_stays_if_the_run_fails_or_is_refused(self) -> None:
        for fields in ({"code": "l.clear(); x = 5\n1/0"}, {"code": "x =", }, {"code": "", "context": {"1": 1}}):
            worker = self.start()
            self.assertFalse(worker.run(restore=self.STATE, **fields).ok)  # type: ignore[arg-type]
            self.assertEqual(worker.run("").variables, self.STATE)

    def test_what_is_returned_can_be_restored(self) -> None:
        first, second = self.start(), self.start()
        variables = first.run("a = {'k': [1, 2.5, None, True]}; b = -1 << 60; c = b'c'; é = 'é'").variables
        self.assertEqual(second.run("", restore=variables).variables, variables)

    def test_a_state_that_is_broken_is_refused(self) -> None:
        worker = self.start()
        result = worker.result(worker.begin_raw({"code": "1", "restore": {"x": b"\xc1"}}))
        self.assertEqual(result.kind, "input")
        self.assertTrue(result.error.startswith("restore `x`: "), result.error)
        self.assertEqual(worker.value("2"), 2)


class Context(SessionTest):
    def test_values_become_variables_and_vanish_with_a_failure(self) -> None:
        worker = self.start()
        self.assertEqual(worker.value("sum(numbers)", context={"numbers": [1, 2]}), 3)
        worker.run("1/0", context={"numbers": [], "more": 1})
        self.assertEqual(worker.run("").variables, {"numbers": [1, 2]})

    def test_names_that_no_variable_can_have_are_refused(self) -> None:
        worker = self.start()
        for name in ("", "1a", "a b", "class", "None", "__debug__", "a.b", "é!"):
            with self.subTest(name=name):
                result = worker.run("ran = 1", context={name: 1})
                self.assertEqual((result.ok, result.kind), (False, "input"))
                self.assertEqual(result.error, f"context `{name}`: not a name that a variable can have")
        self.assertEqual(worker.run("", context={"été": 1, "match": 2}).variables, {"été": 1, "match": 2})

    def test_values_that_are_not_messagepack_are_refused(self) -> None:
        worker = self.start()
        for value, reason in ((b"", "cut off"), (b"\xc1", "0xc1"), (b"\x01\x02", "ends at"), (5, "not binary")):
            result = worker.result(worker.begin_raw({"code": "ran = 1", "context": {"x": value}}))
            self.assertEqual(result.kind, "input")
            self.assertTrue(result.error.startswith("context `x`: "), result.error)
            self.assertIn(reason, result.error)
        self.assertEqual(worker.run("").variables, {})

    def test_calls_that_are_none_are_refused(self) -> None:
        worker = self.start()
        for call in (1, {}, {"code": 1}, {"code": "", "context": []}, {"code": "", "files": [1]}, {"code": "", "files": {}}):
            with self.subTest(call=call):
                self.assertEqual(worker.result(worker.begin_raw(call)).kind, "input")
        worker.send(99, 3, msgpack.encode({"code": "1"})[:-1])
        self.assertIn("call: ", worker.result(99).error)


class Files(SessionTest):
    def test_files_are_in_the_session_s_folder(self) -> None:
        worker = self.start()
        result = worker.run("[open(f, 'rb').read() for f in files]", files=[b"one", b"", b"\0" * 100_000])
        self.assertEqual(result.extras["_"], [b"one", b"", b"\0" * 100_000])
        self.assertEqual(result.variables, {})
        self.assertEqual(worker.value("files"), [f"{worker.folder}/file_{n}" for n in range(3)])
        self.assertEqual(worker.value("open('file_0').read()"), "one")

    def test_without_files_there_is_no_such_variable(self) -> None:
        self.assertEqual(self.start().run("files").error, "NameError: name 'files' is not defined")

    def test_files_replace_what_is_in_their_place(self) -> None:
        worker = self.start()
        worker.run("import os\nopen('target', 'w').write('untouched')\nos.symlink('target', 'file_0')\nheld = open('target')")
        self.assertEqual(worker.value("open(files[0]).read(), open('target').read()", files=[b"new"]), ["new", "untouched"])
        worker.run("os.chdir('/')\nimport shutil\nshutil.rmtree(os.path.dirname(files[0]))")
        self.assertEqual(worker.value("open(files[0]).read()", files=[b"again"]), "again")
        worker.run("os.unlink(files[0])\nos.mkdir(files[0])")
        self.assertEqual(worker.run("1", files=[b"x"]).kind, "input")
        self.assertEqual(worker.value("1"), 1)


if __name__ == "__main__":
    unittest.main()
