"""Which adapter an entrypoint gets, and what its exports do."""

from __future__ import annotations

import os
import unittest

from fake_worker import HarnessTest, frames

ADAPTER = """
import os
class PixellAdapter:
    def process_request(self, data):
        action = data["action"]
        if action == "raise": raise RuntimeError("adapter failure")
        if action == "leave": raise SystemExit(3)
        if action == "list": return ["not", "a", "dict"]
        return {"got": data}
    def cleanup(self):
        print("cleaned up")
def main(): raise AssertionError("the class wins")
"""
PROGRAM = """
import json, os, subprocess, sys, time
def main():
    request = json.loads(sys.stdin.read())
    mode = request.get("mode")
    if mode == "noise": print("this is not json"); return
    if mode == "exit": print('{"printed": true}'); sys.exit(2)
    if mode == "silent": sys.exit(4)
    if mode == "raise": raise ValueError("no luck")
    if mode == "flood":
        while True: sys.stdout.write("x" * 65536)
    if mode == "daemon":
        subprocess.Popen(["sleep", "600"])
    if mode == "hang":
        print("hanging", os.getpid(), file=sys.stderr)
        time.sleep(600)
    print(json.dumps({"got": request, "pid": os.getpid()}))
"""
EXPORTS = """
def word_count(body): return {"words": len(body["text"].split())}
class Counter:
    def __call__(self, body): return {"called": body}
    async def later(self, body): return {"later": body}
counter = Counter()
def handler(body): return {"handler": body}
"""


class ClassAdapter(HarnessTest):
    def test_its_three_exports_set_the_action_and_invoke_executes(self) -> None:
        worker = self.start(ADAPTER, entrypoint="main:main")
        names = ["get_info", "list_capabilities", "execute", "invoke"]
        self.assertEqual(self.ready, {"adapter": "class", "exports": names, "actions": names, "asgi": False})
        self.assertEqual(worker.ask({"x": 1}), {"got": {"action": "execute", "x": 1}})
        self.assertEqual(worker.ask({"action": "mine"}), {"got": {"action": "mine"}})
        self.assertEqual(worker.ask({"action": "mine"}, "get_info"), {"got": {"action": "get_info"}})

    def test_what_is_not_a_dict_is_wrapped_and_an_exception_is_an_answer(self) -> None:
        worker = self.start(ADAPTER, entrypoint="main:main")
        self.assertEqual(worker.ask({"action": "list"}), {"result": ["not", "a", "dict"]})
        self.assertEqual(worker.ask({"action": "raise"}), {"status": "error", "message": "adapter failure"})
        self.assertEqual(worker.ask({"action": "leave"}), {"status": "error", "message": "SystemExit: 3"})
        self.assertEqual(worker.failure(worker.call([1]))["kind"], "bad_json")

    def test_an_async_adapter_is_awaited(self) -> None:
        worker = self.start(ADAPTER.replace("def process", "async def process"), entrypoint="main:main")
        self.assertEqual(worker.ask({"action": "mine"}), {"got": {"action": "mine"}})
        self.assertEqual(worker.ask({"action": "raise"}), {"status": "error", "message": "adapter failure"})

    def test_stop_cleans_up(self) -> None:
        worker = self.start(ADAPTER, entrypoint="main:main")
        self.assertEqual(worker.stop(), 0)
        worker.wait_for_output("stdout", b"cleaned up\n")

    def test_an_unknown_name_is_an_unknown_export(self) -> None:
        worker = self.start(ADAPTER, entrypoint="main:main")
        failure = worker.failure(worker.call({}, "upper"))
        self.assertEqual(failure, {"kind": "unknown_export", "detail": "upper"})


class Program(HarnessTest):
    def launch_program(self):
        return self.start(PROGRAM, entrypoint="main:main")

    def test_it_reads_the_action_and_the_body_in_a_process_of_its_own(self) -> None:
        worker = self.launch_program()
        answer = worker.ask({"a": 1})
        self.assertEqual(answer["got"], {"action": "invoke", "a": 1})
        self.assertNotEqual(answer["pid"], worker.process.pid)
        self.assertEqual(worker.ask({"action": "x"})["got"], {"action": "x"})
        self.assertEqual(worker.ask({}, "get_info")["got"], {"action": "get_info"})

    def test_what_it_prints_is_the_answer_even_when_it_fails_afterwards(self) -> None:
        self.assertEqual(self.launch_program().ask({"mode": "exit"}), {"printed": True})

    def test_every_other_end_is_an_answer_with_status_error(self) -> None:
        worker = self.launch_program()
        for mode, words in (
            ("noise", "did not print JSON"),
            ("silent", "code 4"),
            ("raise", "no luck"),
            ("flood", "64 MiB"),
        ):
            answer = worker.ask({"mode": mode})
            self.assertEqual(answer["status"], "error")
            self.assertIn(words, answer["message"])
        worker.wait_for_output("stderr", b"ValueError: no luck")

    def test_many_run_beside_each_other(self) -> None:
        worker = self.launch_program()
        calls = [worker.call({"n": n}) for n in range(20)]
        answers = [worker.result(id) for id in calls]
        self.assertEqual([answer["got"]["n"] for answer in answers], list(range(20)))
        self.assertEqual(len({answer["pid"] for answer in answers}), 20)

    def test_what_it_leaves_running_neither_delays_the_answer_nor_survives(self) -> None:
        self.assertEqual(self.launch_program().ask({"mode": "daemon"})["got"]["mode"], "daemon")

    def test_cancel_kills_it(self) -> None:
        worker = self.launch_program()
        call = worker.call({"mode": "hang"})
        worker.wait_for_output("stderr", b"hanging")
        worker.send(call, frames.CANCEL)
        self.assertEqual(worker.failure(call)["kind"], "cancelled")
        pid = int(worker.output["stderr"].split()[1])
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)


class Exports(HarnessTest):
    def test_each_name_has_its_own_handler_or_sets_the_action(self) -> None:
        exports = [
            {"name": "colon", "handler": "main:counter", "sub_agent": False},
            {"name": "dot", "handler": "main.counter", "sub_agent": False},
            {"name": "method", "handler": "main:counter.later", "sub_agent": False},
            {"name": "plain", "handler": None, "sub_agent": False},
            {"name": "word-count", "handler": None, "sub_agent": True},
            {"name": "no-function", "handler": None, "sub_agent": True},
        ]
        worker = self.start(EXPORTS, exports=exports)
        self.assertEqual(self.ready["exports"], [export["name"] for export in exports] + ["invoke"])
        self.assertEqual(worker.ask({}, "colon"), {"called": {}})
        self.assertEqual(worker.ask({}, "dot"), {"called": {}})
        self.assertEqual(worker.ask({}, "method"), {"later": {}})
        self.assertEqual(worker.ask({"action": "other"}, "plain"), {"handler": {"action": "plain"}})
        self.assertEqual(worker.ask({"text": "a b c"}, "word-count"), {"words": 3})
        self.assertEqual(worker.ask({}, "no-function"), {"handler": {"action": "no-function"}})
        self.assertEqual(worker.ask([1], "invoke"), {"handler": [1]})

    def test_a_callable_object_can_be_the_entrypoint(self) -> None:
        worker = self.start(EXPORTS, entrypoint="main:counter")
        self.assertEqual(worker.ask({"x": 1}), {"called": {"x": 1}})


if __name__ == "__main__":
    unittest.main()
