"""An agent calls methods of others: through its worker's door, or, outside the runtime, at a port."""

from __future__ import annotations

import asyncio
import sys
import threading
import types
import unittest
from concurrent.futures import ThreadPoolExecutor

from fake_worker import FakeWorker
from test_grpc_stubs import DESCRIPTION, PB2, GrpcTest, messages, needs_grpc

CALLER = """
import asyncio, json, sys, threading
from pixell_agent_runtime.a2a_client import A2ACallError, get_a2a_client
from pixell_agent_runtime.a2a_grpc_client import A2AGrpcClient
client = A2AGrpcClient()
"""
MESSAGE = """
import greet_pb2
async def handler(body):
    ask = greet_pb2.Ask(name=body["name"])
    answer = await client.call_grpc_method("other agent", 18002, "greet.Greeter", "Greet", ask)
    return [type(answer) is greet_pb2.Answer, answer.text]
"""
RAW = """
async def handler(body):
    request = b"\\n\\3Ada"
    answer = await client.call_grpc_method("other", None, "greet.Greeter", "Greet", request, metadata={"x-mine": "1"})
    return [answer.hex()]
"""
DICT = """
async def handler(body):
    at = {"name": body.get("name", "Ada"), "n": 2, "at": "2024-01-02T03:04:05Z"}
    return [await client.call_grpc_method("other", 0, "greet.Greeter", body.get("method", "Greet"), at)]
"""
STREAM = """
async def handler(body):
    request = {"n": body["n"]}
    return [item async for item in client.stream_grpc_method("other", 0, "greet.Greeter", "Count", request)]
"""
LEAVING = """
async def handler(body):
    async for item in client.stream_grpc_method("other", 0, "greet.Greeter", "Count", {"n": body["n"]}):
        return item
"""
CLIENT = """
async def handler(body):
    try:
        return await get_a2a_client().call_grpc("other", body.get("service", "greet.Greeter"), body["method"], {},
                                                timeout_seconds=body.get("timeout"))
    except A2ACallError as error:
        return [str(error), error.status, error.code]
"""
LOOPS = """
import greet_pb2
async def greet(name):
    return (await client.call_grpc_method("other", 0, "greet.Greeter", "Greet", greet_pb2.Ask(name=name))).text
def handler(body):
    async def several(): return await asyncio.gather(*[greet(f"{body['name']}{n}") for n in range(3)])
    answers = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: answers.append(asyncio.run(several())))
        thread.start()
        thread.join()
    return answers + [asyncio.run(several())]
async def on_loop(body):
    answer = await greet(body["name"])
    await client.close()
    return [answer, await greet(body["name"])]
"""
PROGRAM = """
import greet_pb2
async def greet(name):
    return (await get_a2a_client().call_grpc("other", "greet.Greeter", "Greet", greet_pb2.Ask(name=name))).text
def main():
    request = json.load(sys.stdin)
    print(json.dumps([asyncio.run(greet(request["name"])) for _ in range(2)]))
"""


class Door:
    """What a worker would do with an agent's calls: it records who asks whom, and answers."""

    def __init__(self, address: str, *, reflection: str | None = "v1") -> None:
        import grpc

        self.calls: list[tuple[str, dict[str, str]]] = []
        self.reflection = reflection
        self.ended = threading.Event()
        self.description = DESCRIPTION
        self._ask, self._answer = messages()
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port(address)
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()

    def service(self, details):
        import grpc

        self.calls.append((details.method, dict(details.invocation_metadata)))
        service, _, method = details.method[1:].rpartition("/")
        if service == f"grpc.reflection.{self.reflection}.ServerReflection":
            return grpc.stream_stream_rpc_method_handler(self._reflect)
        return {
            "Greet": grpc.unary_unary_rpc_method_handler(self._greet),
            "Count": grpc.unary_stream_rpc_method_handler(self._count),
            "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
            "Sum": grpc.unary_unary_rpc_method_handler(self._sleep),
        }.get(method)

    def _greet(self, request, context):
        asked = self._ask.FromString(request)
        return self._answer(text=f"hello {asked.name}", total_count=asked.at.seconds).SerializeToString()

    def _count(self, request, context):
        context.add_callback(self.ended.set)
        for n in range(self._ask.FromString(request).n):
            yield self._answer(total_count=n + 1).SerializeToString()

    def _fail(self, request, context):
        import grpc

        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not for you")

    def _sleep(self, request, context):
        left = threading.Event()
        context.add_callback(left.set)
        left.wait(20)
        return b""

    def _reflect(self, requests, context):
        from google.protobuf import timestamp_pb2

        from pixell_agent_runtime.grpc_reflection import _field, _fields, _varint

        files = {b"google/protobuf/timestamp.proto": timestamp_pb2.DESCRIPTOR.serialized_pb}
        for request in requests:
            ((number, wanted),) = _fields(request)
            found = self.description if (number, wanted) == (4, b"greet.Greeter") else files.get(wanted)
            if found is None:
                yield _field(7, b"\x08" + _varint(5) + _field(2, b"no " + wanted))
            else:
                yield _field(2, request) + _field(4, _field(1, found))

    def paths(self) -> list[str]:
        return [path for path, _ in self.calls]


@needs_grpc
class ThroughTheDoor(GrpcTest):
    def agent(self, main: str, *, reflection: str | None = "v1", **load: object) -> FakeWorker:
        self.served = Door(f"unix:{self.door}", reflection=reflection)
        self.addCleanup(self.served.close)
        return self.start(CALLER + main, **load)

    def test_a_call_says_which_agent_and_for_which_call(self) -> None:
        worker = self.agent(MESSAGE)
        call = worker.call({"name": "Ada"})
        self.assertEqual(worker.result(call), [True, "hello Ada"])
        ((path, metadata),) = self.served.calls
        self.assertEqual(path, "/greet.Greeter/Greet")
        self.assertEqual((metadata["x-agent-id"], metadata["x-par-parent"]), ("other agent", str(call)))

    def test_bytes_are_answered_with_bytes_and_metadata_goes_along(self) -> None:
        worker = self.agent(RAW)
        self.assertEqual(bytes.fromhex(worker.ask({})[0]), messages()[1](text="hello Ada").SerializeToString())
        self.assertEqual(self.served.calls[0][1]["x-mine"], "1")

    def test_a_message_of_a_service_that_is_not_known_is_answered_with_bytes(self) -> None:
        worker = self.agent(
            RAW.replace('b"\\n\\3Ada"', "StringValue(value='Ada')").replace("greet.Greeter", "x.Y")
            + "from google.protobuf.wrappers_pb2 import StringValue\n"
        )
        self.assertEqual(bytes.fromhex(worker.ask({})[0]), messages()[1](text="hello Ada").SerializeToString())

    def test_a_dict_is_answered_with_a_dict_by_either_version_of_reflection(self) -> None:
        for reflection in ("v1", "v1alpha"):
            with self.subTest(reflection=reflection):
                self.served.close() if reflection == "v1alpha" else None
                worker = self.agent(DICT, reflection=reflection)
                self.assertEqual(worker.ask({}), [{"text": "hello Ada", "total_count": 1704164645}])
                self.assertEqual(self.served.calls[0][1]["x-agent-id"], "other")

    def test_a_service_is_described_once(self) -> None:
        worker = self.agent(DICT)
        for _ in range(3):
            worker.ask({})
        reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        # One question for its file, and one for the file that this imports.
        self.assertEqual(self.served.paths(), [reflection, reflection, *["/greet.Greeter/Greet"] * 3])

    def test_what_the_description_does_not_fit_any_more_is_described_anew(self) -> None:
        worker = self.agent(DICT)
        self.served.description = DESCRIPTION.replace(b"Greet\x12\n.greet.Ask", b"Other\x12\n.greet.Ask")
        failure = worker.failure(worker.call({}))
        self.assertEqual(failure["detail"], "the service greet.Greeter has no method Greet")
        self.served.description = DESCRIPTION
        self.assertEqual(worker.ask({})[0]["text"], "hello Ada")

    def test_a_description_that_cannot_be_understood_is_an_error_of_the_call(self) -> None:
        worker = self.agent(CLIENT)
        for description in (b"\xff\xff", DESCRIPTION.replace(b"google/protobuf", b"google/missing_"), DESCRIPTION[:13]):
            self.served.description = description
            self.assertIn(worker.ask({"method": "Greet"})[2], ("UNKNOWN", "NOT_FOUND"))

    def test_a_dict_that_does_not_fit_is_the_caller_s_mistake(self) -> None:
        worker = self.agent(DICT)
        self.assertIn("the request is no greet.Ask", worker.failure(worker.call({"name": 1}))["detail"])

    def test_answers_that_stream_come_one_by_one(self) -> None:
        worker = self.agent(STREAM)
        self.assertEqual(worker.ask({"n": 3}), [{"total_count": 1}, {"total_count": 2}, {"total_count": 3}])

    def test_who_leaves_a_stream_ends_it(self) -> None:
        worker = self.agent(LEAVING)
        self.assertEqual(worker.ask({"n": 1 << 30}), {"total_count": 1})
        self.assertTrue(self.served.ended.wait(20))

    def test_statuses_are_errors_with_their_names(self) -> None:
        worker = self.agent(CLIENT)
        ask = {"service": "x.Y", "method": "Fail"}
        self.assertEqual(worker.ask(ask), ["A2A call failed: NOT_FOUND - no description: no x.Y", 0, "NOT_FOUND"])
        worker = self.start(CALLER + CLIENT.replace("{}", "b''"))
        answer = ["A2A call failed: PERMISSION_DENIED - not for you", 0, "PERMISSION_DENIED"]
        self.assertEqual(worker.ask({"method": "Fail"}), answer)
        self.assertEqual(worker.ask({"method": "Nothing"})[2], "UNIMPLEMENTED")
        self.assertEqual(worker.ask({"method": "Sum", "timeout": 0.1})[2], "DEADLINE_EXCEEDED")
        self.served.close()
        self.assertEqual(worker.ask({"method": "Greet", "timeout": 5})[2], "UNAVAILABLE")

    def test_a_cancelled_call_cancels_what_it_asked_for(self) -> None:
        from fake_worker import frames

        worker = self.agent(CLIENT.replace("{}", "b''"))
        call = worker.call({"method": "Sum"})
        self.wait_until(lambda: self.served.calls)
        worker.send(call, frames.CANCEL)
        self.assertEqual(worker.failure(call)["kind"], "cancelled")

    def test_it_works_from_every_loop_that_the_agent_runs(self) -> None:
        exports = [{"name": "on_loop", "handler": "main:on_loop", "sub_agent": False}]
        worker = self.agent(LOOPS, exports=exports)
        three = ["hello x0", "hello x1", "hello x2"]
        for _ in range(3):
            self.assertEqual(worker.ask({"name": "x"}), [three, three, three])
            self.assertEqual(worker.ask({"name": "x"}, "on_loop"), ["hello x", "hello x"])
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(worker.output["stderr"], b"")

    def test_a_forked_program_calls_through_the_door_too(self) -> None:
        worker = self.agent(PROGRAM, entrypoint="main:main")
        for _ in range(3):
            call = worker.call({"name": "Ada"})
            self.assertEqual(worker.result(call), ["hello Ada", "hello Ada"])
            self.assertEqual(self.served.calls[-1][1]["x-par-parent"], str(call))

    def test_a_program_forked_while_grpc_was_in_use_is_told_instead_of_hanging(self) -> None:
        main = PROGRAM + (
            "import greet_pb2_grpc\nfrom pixell_agent_runtime.a2a_grpc_client import A2AGrpcServer\n"
            "A2AGrpcServer().start(greet_pb2_grpc.GreeterServicer(), greet_pb2_grpc.add_GreeterServicer_to_server)\n"
        )
        self.served = Door(f"unix:{self.door}")
        self.addCleanup(self.served.close)
        worker = self.launch({"main.py": CALLER + main}, entrypoint="main:main")
        worker.next_of(0)
        worker.ready()
        answer = worker.ask({"name": "Ada"})
        self.assertIn("was forked from one that used gRPC", answer["message"])


@needs_grpc
class OutsideTheRuntime(unittest.TestCase):
    def setUp(self) -> None:
        from pixell_agent_runtime.a2a_client import A2AClient
        from pixell_agent_runtime.a2a_grpc_client import A2AGrpcClient

        self.served = Door("127.0.0.1:0")
        self.addCleanup(self.served.close)
        supervisor = f"http://127.0.0.1:{self.served.port}/"
        self.client = A2AClient(supervisor)
        self.grpc_client = A2AGrpcClient(supervisor)
        self.nobody = A2AGrpcClient("http://127.0.0.1:1")

    def test_a_port_is_called_on_this_machine_and_an_id_alone_at_the_supervisor(self) -> None:
        greet = ("greet.Greeter", "Greet", {"name": "Ada"})

        async def calls() -> list[object]:
            return [
                await self.nobody.call_grpc_method("a", self.served.port, *greet),
                await self.grpc_client.call_grpc_method("a", None, *greet),
                await self.client.call_grpc("a", *greet),
                await self.nobody.close(),
            ]

        self.assertEqual(asyncio.run(calls()), [{"text": "hello Ada"}] * 3 + [None])
        for _, metadata in self.served.calls:
            self.assertEqual(metadata["x-agent-id"], "a")
            self.assertNotIn("x-par-parent", metadata)

    def test_a_message_is_answered_with_a_message(self) -> None:
        module = types.ModuleType("greet_pb2")
        exec(PB2, module.__dict__)
        ask = module.Ask(name="Ada")
        answer = asyncio.run(self.client.call_grpc("a", "greet.Greeter", "Greet", ask))
        self.assertEqual(answer, module.Answer(text="hello Ada"))

    def test_an_error_of_the_lower_client_is_that_of_grpc(self) -> None:
        import grpc

        with self.assertRaises(grpc.aio.AioRpcError):
            asyncio.run(self.grpc_client.call_grpc_method("a", None, "x.Y", "Fail", b""))
        with self.assertRaises(TypeError):
            asyncio.run(self.grpc_client.call_grpc_method("a", None, "x.Y", "Fail", "text"))


class WithoutGrpc(unittest.TestCase):
    def test_the_modules_need_nothing_but_the_standard_library_until_they_are_used(self) -> None:
        import subprocess

        from fake_worker import PYTHON_FOLDER

        program = f"""
import sys; sys.path.insert(0, {PYTHON_FOLDER!r})
from pixell_agent_runtime.a2a_client import A2AClient
import asyncio, pixell_agent_runtime.a2a_grpc_client as module
module.A2AGrpcServer(1); module.A2AGrpcClient().close()
try: asyncio.run(A2AClient().call_grpc("a", "s", "m", {{}}))
except ImportError as error: print(error)
"""
        ran = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=60)
        says = "No module named 'grpc'; gRPC needs grpcio: add it to the agent's requirements\n"
        self.assertEqual((ran.stdout, ran.stderr), (says, ""))


if __name__ == "__main__":
    unittest.main()
