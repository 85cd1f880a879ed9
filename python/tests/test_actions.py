"""Actions: custom handlers of an A2A service and exports, called with strings and answered with one."""

from __future__ import annotations

import json
import unittest

from fake_worker import FakeWorker, HarnessTest, frames

ENTRY = """
def handler(body): return {"handler": body}
async def greet(body): return f"hello {body['name']}"
"""
GREET = [{"name": "greet", "handler": "main:greet", "sub_agent": False}]
HANDLERS = """
import asyncio
class Service:
    def __init__(self):
        self.custom_handlers = {
            "upper": self.upper, "add": self.add, "fail": self.fail, "plain": plain,
            "count": count, "count_later": count_later, "late": late, "wait": wait, "called": Called(),
        }
    async def upper(self, parameters): return parameters.get("text", "").upper()
    async def add(self, parameters): return {"sum": float(parameters["a"]) + float(parameters["b"])}
    async def fail(self, parameters): raise ValueError("a2a handler failed")
def plain(parameters): return sorted(parameters)
def count(parameters): yield from range(int(parameters["n"]))
async def count_later(parameters):
    for n in range(int(parameters["n"])):
        yield n
def late(parameters): return asyncio.sleep(0, None)
async def wait(parameters):
    print("begun")
    await asyncio.sleep(600)
class Called:
    async def __call__(self, parameters): return b"bytes"
def create(): return Service()
def create_dict(): return {"custom_handlers": Service().custom_handlers}
async def create_later():
    await asyncio.sleep(0)
    return Service()
"""
CUSTOM = ["upper", "add", "fail", "plain", "count", "count_later", "late", "wait", "called"]


def act(worker: FakeWorker, action: str, **parameters: str) -> int:
    return worker.call(parameters, "\0" + action)


class CustomHandlers(HarnessTest):
    def serve(self, factory: str, **more: object) -> FakeWorker:
        worker = self.launch({"main.py": ENTRY, "src/a2a/server.py": HANDLERS}, a2a_service=factory, **more)
        self.ready = worker.ready()
        return worker

    def test_every_form_of_a_factory_gives_the_same_actions(self) -> None:
        for factory in ("src.a2a.server:create", "server:create_dict", "server:create_later", "server:Service"):
            with self.subTest(factory=factory):
                worker = self.serve(factory)
                self.assertEqual(self.ready["actions"], [*CUSTOM, "invoke"])
                self.assertEqual(self.ready["exports"], ["invoke"])
                self.assertEqual(worker.result(act(worker, "upper", text="é")), "É")

    def test_an_answer_is_the_text_of_the_result(self) -> None:
        worker = self.serve("server:create")
        for action, parameters, text in (
            ("add", {"a": "2", "b": "3"}, "{'sum': 5.0}"),
            ("plain", {"b": "", "a": ""}, "['a', 'b']"),
            ("count", {"n": "3"}, "[0, 1, 2]"),
            ("count_later", {"n": "2"}, "[0, 1]"),
            ("late", {}, "None"),
            ("called", {}, "b'bytes'"),
            ("invoke", {"x": "1"}, "{'handler': {'x': '1'}}"),
        ):
            with self.subTest(action=action):
                self.assertEqual(worker.result(act(worker, action, **parameters)), text)

    def test_an_exception_is_a_failure_and_its_traceback_is_logged(self) -> None:
        worker = self.serve("server:create")
        failure = worker.failure(act(worker, "fail"))
        self.assertEqual((failure["kind"], failure["detail"]), ("raised", "a2a handler failed"))
        worker.wait_for_output("stderr", b"ValueError: a2a handler failed")

    def test_an_unknown_action_is_an_unknown_export(self) -> None:
        worker = self.serve("server:create")
        self.assertEqual(worker.failure(act(worker, "nope")), {"kind": "unknown_export", "detail": "\0nope"})
        self.assertEqual(worker.failure(worker.call({}, "upper"))["kind"], "unknown_export")

    def test_a_cancelled_action_is_ended(self) -> None:
        worker = self.serve("server:create")
        call = act(worker, "wait")
        worker.wait_for_output("stdout", b"begun")
        worker.send(call, frames.CANCEL)
        self.assertEqual(worker.failure(call)["kind"], "cancelled")

    def test_a_bare_function_is_one_of_the_entrypoint_s_module(self) -> None:
        worker = self.start(ENTRY + "def create(): return {'custom_handlers': {'x': str}}\n", a2a_service="create")
        self.assertEqual(self.ready["actions"], ["x", "invoke"])
        self.assertEqual(worker.result(act(worker, "x")), "{}")


class Exports(HarnessTest):
    def test_exports_are_actions_too_unless_a_custom_handler_has_their_name(self) -> None:
        service = "def create(): return {'custom_handlers': {'greet': lambda parameters: 'mine'}}\n"
        worker = self.start(ENTRY, exports=GREET)
        self.assertEqual(self.ready["actions"], ["greet", "invoke"])
        self.assertEqual(worker.result(act(worker, "greet", name="Ada")), "hello Ada")
        worker = self.start(ENTRY + service, exports=GREET, a2a_service="main:create")
        self.assertEqual(self.ready["actions"], ["greet", "invoke"])
        self.assertEqual(worker.result(act(worker, "greet")), "mine")
        self.assertEqual(worker.ask({"name": "Ada"}, "greet"), "hello Ada")

    def test_an_agent_that_uses_no_grpc_pays_for_none(self) -> None:
        main = "import sys\ndef handler(body): return [name for name in body if name in sys.modules]\n"
        worker = self.start(main, own_grpc_socket="/nowhere", grpc_door="/nowhere")
        heavy = ["asyncio", "logging", "grpc", "concurrent.futures", "pixell_agent_runtime", "par_harness.a2a_service"]
        self.assertEqual(worker.ask(heavy), [])

    def test_a_service_needs_no_entrypoint(self) -> None:
        worker = self.start(HANDLERS, entrypoint=None, a2a_service="main:create")
        self.assertEqual((self.ready["adapter"], self.ready["actions"]), ("none", CUSTOM))
        self.assertEqual(worker.result(act(worker, "upper", text="a")), "A")


class Refusals(HarnessTest):
    def refusal(self, service: str, factory: str = "main:create") -> str:
        worker = self.launch({"main.py": ENTRY + service}, a2a_service=factory)
        kind, body = worker.next_of(0)
        self.assertEqual(kind, frames.ERROR)
        self.assertEqual(worker.process.wait(20), 1)
        failure = json.loads(body)
        self.assertEqual(failure["kind"], "load")
        return failure["detail"]

    def test_a_factory_that_cannot_be_had_called_or_used_says_why(self) -> None:
        for service, detail in (
            ("", "A2A service `main:create`: main has no `create`"),
            ("create = 1", "A2A service `main:create` is not callable (int)"),
            ("def create(): raise ValueError('no')", "A2A service `main:create` raised ValueError: no"),
            ("def create(): exit(3)", "A2A service `main:create` raised SystemExit"),
            ("async def create(): exit(3)", "A2A service `main:create` raised SystemExit"),
            ("def create(): return [1]", "returned list, which neither has `custom_handlers`"),
            ("def create(): return {'upper': str}", "returned dict, which neither has `custom_handlers`"),
            ("def create(): return {'custom_handlers': [str]}", "is not a dict (list)"),
            ("def create(): return {'custom_handlers': {1: str}}", "a name that is not a string: 1"),
            ("def create(): return {'custom_handlers': {'x': 1}}", "custom handler `x` of"),
        ):
            with self.subTest(service=service):
                self.assertIn(detail, self.refusal(service))
        self.assertIn("cannot import `absent`: No module named 'absent'", self.refusal("", "absent:create"))

    def test_grpc_that_is_missing_says_what_to_require(self) -> None:
        says = "cannot import `main`: No module named 'grpc'; add grpcio to the agent's requirements"
        self.assertEqual(self.refusal("import grpc"), says)
        says = "add it to the agent's requirements"
        start = "from pixell_agent_runtime.a2a_grpc_client import A2AGrpcServer\nA2AGrpcServer().start(None, add)"
        add = "def add(servicer, server): server.add_registered_method_handlers('s', {})\n"
        self.assertIn(says, self.refusal(f"{add}{start}"))


if __name__ == "__main__":
    unittest.main()
