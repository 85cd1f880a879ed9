"""An agent serves gRPC of its own: on the socket it was given, whenever and however it begins."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
import unittest

from fake_worker import PYTHON_FOLDER, FakeWorker, frames
from test_grpc_stubs import STUBS, GrpcTest, messages, needs_grpc

SERVICER = """
import asyncio, threading, time
import greet_pb2, greet_pb2_grpc
from pixell_agent_runtime.a2a_grpc_client import A2AGrpcServer
class Greeter(greet_pb2_grpc.GreeterServicer):
    async def Greet(self, request, context):
        if request.name == "slow":
            print("begun")
            await asyncio.sleep(request.n)
        if request.name == "fail":
            raise ValueError("no greeting")
        return greet_pb2.Answer(text="hello " + request.name)
    async def Count(self, request, context):
        for n in range(request.n):
            yield greet_pb2.Answer(total_count=n)
    async def Sum(self, requests, context):
        return greet_pb2.Answer(total_count=sum([request.n async for request in requests]))
    async def Chat(self, requests, context):
        async for request in requests:
            yield greet_pb2.Answer(text=request.name)
class Blocking(greet_pb2_grpc.GreeterServicer):
    def Greet(self, request, context):
        time.sleep(request.n)
        return greet_pb2.Answer(text="hello " + request.name)
    def Count(self, request, context):
        for n in range(request.n):
            yield greet_pb2.Answer(total_count=n)
    def Sum(self, requests, context):
        return greet_pb2.Answer(total_count=sum(request.n for request in requests))
    def Chat(self, requests, context):
        for request in requests:
            yield greet_pb2.Answer(text=request.name)
ADD = greet_pb2_grpc.add_GreeterServicer_to_server
def handler(body): return body
"""
GENERIC = """
import grpc
def generic(service):
    async def where(request, context): return service.encode() + request
    handler = grpc.method_handlers_generic_handler(service, {"Where": grpc.unary_unary_rpc_method_handler(where)})
    return lambda servicer, server: server.add_generic_rpc_handlers((handler,))
"""


def said(frame: tuple[int, bytes]) -> dict:
    kind, body = frame
    assert kind == frames.SERVES, frame
    return json.loads(body)


class OwnServices(GrpcTest):
    def begin(self, main: str, **load: object) -> tuple[FakeWorker, dict]:
        """An agent that is ready, and the last that it has said before of what it serves."""
        worker = self.launch({"main.py": main}, **load)
        serves = {}
        while True:
            kind, body = worker.next_of(0)
            if kind == frames.READY:
                self.ready = json.loads(body)
                return worker, serves
            serves = said((kind, body))

    def end(self, worker: FakeWorker) -> None:
        worker.process.kill()
        worker.process.wait()

    def channel(self):
        import grpc

        # Otherwise grpcio shares a connection with earlier channels, which may be to a server that has ended.
        channel = grpc.insecure_channel(f"unix:{self.own}", options=[("grpc.use_local_subchannel_pool", 1)])
        self.addCleanup(channel.close)
        return channel

    def call(self, kind: str, path: str, request: object, **more: object) -> object:
        method = getattr(self.channel(), kind)(path)
        return method(request, timeout=20, **more)

    def greet(self, name: str, n: int = 0, **more: object) -> str:
        ask, answer = messages()
        request = ask(name=name, n=n).SerializeToString()
        return answer.FromString(self.call("unary_unary", "/greet.Greeter/Greet", request, **more)).text

    def where(self, service: str) -> bytes:
        return self.call("unary_unary", f"/{service}/Where", b"!")


@needs_grpc
class Kinds(OwnServices):
    def test_all_four_kinds_of_methods_work_async_or_not(self) -> None:
        ask, answer = messages()
        requests = [ask(name=name, n=n).SerializeToString() for n, name in enumerate("abc")]
        for servicer in ("Greeter", "Blocking"):
            with self.subTest(servicer=servicer):
                worker, _ = self.begin(SERVICER + f"A2AGrpcServer(50051).start({servicer}(), ADD)\n")
                self.assertEqual(self.greet("Ada"), "hello Ada")
                counted = self.call("unary_stream", "/greet.Greeter/Count", requests[2])
                self.assertEqual([answer.FromString(item).total_count for item in counted], [0, 1])
                total = self.call("stream_unary", "/greet.Greeter/Sum", iter(requests))
                self.assertEqual(answer.FromString(total).total_count, 3)
                echoed = self.call("stream_stream", "/greet.Greeter/Chat", iter(requests))
                self.assertEqual([answer.FromString(item).text for item in echoed], ["a", "b", "c"])
                self.assertEqual(worker.ask({"x": 1}), {"x": 1})
                self.end(worker)

    def test_messages_of_many_megabytes_pass(self) -> None:
        self.begin(SERVICER + "A2AGrpcServer().start(Greeter(), ADD)\n")
        import grpc

        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        ask, answer = messages()
        name = "x" * (20 << 20)
        with grpc.insecure_channel(f"unix:{self.own}", options=options) as channel:
            method = channel.unary_unary("/greet.Greeter/Greet", ask.SerializeToString, answer.FromString)
            self.assertEqual(method(ask(name=name), timeout=60).text, "hello " + name)

    def test_servicers_that_block_do_not_hold_up_each_other(self) -> None:
        self.begin(SERVICER + "A2AGrpcServer().start(Blocking(), ADD)\n")
        began = time.monotonic()
        threads = [threading.Thread(target=self.greet, args=("x", 1)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertLess(time.monotonic() - began, 4)

    def test_what_is_not_served_is_unimplemented_and_what_raises_unknown(self) -> None:
        import grpc

        self.begin(SERVICER + "A2AGrpcServer().start(Greeter(), ADD)\n")
        for path, code in (("/greet.Nobody/Greet", "UNIMPLEMENTED"), ("/greet.Greeter/Nothing", "UNIMPLEMENTED")):
            with self.assertRaises(grpc.RpcError) as raised:
                self.call("unary_unary", path, b"")
            self.assertEqual(raised.exception.code().name, code)
        with self.assertRaises(grpc.RpcError) as raised:
            self.greet("fail")
        self.assertEqual(raised.exception.code().name, "UNKNOWN")


@needs_grpc
class Announcements(OwnServices):
    def test_the_worker_gets_names_and_descriptors_dependencies_first(self) -> None:
        from google.protobuf import descriptor_pb2

        _, serves = self.begin(SERVICER + "A2AGrpcServer().start(Greeter(), ADD)\n")
        self.assertEqual(serves["services"], ["greet.Greeter"])
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(file)) for file in serves["descriptors"]
        ]
        self.assertEqual([file.name for file in files], ["google/protobuf/timestamp.proto", "greet.proto"])

    def test_services_that_protobuf_does_not_know_have_no_descriptors(self) -> None:
        _, serves = self.begin(GENERIC + SERVICER + "A2AGrpcServer().start(None, generic('my.Own'))\n")
        self.assertEqual(serves, {"services": ["my.Own"], "descriptors": []})

    def test_descriptors_that_are_too_large_are_left_out(self) -> None:
        large = """
from google.protobuf import descriptor_pb2, descriptor_pool
file = descriptor_pb2.FileDescriptorProto(name="large.proto", package="large")
file.message_type.add(name="M")
for n in range(40_000):
    file.message_type[0].nested_type.add(name=f"a_message_with_a_long_name_{n}")
file.service.add(name="S").method.add(name="Where", input_type=".large.M", output_type=".large.M")
descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
"""
        _, serves = self.begin(large + GENERIC + SERVICER + "A2AGrpcServer().start(None, generic('large.S'))\n")
        self.assertEqual(serves, {"services": ["large.S"], "descriptors": []})

    def test_several_servers_share_the_socket_and_end_by_themselves(self) -> None:
        main = f"""{SERVICER}{GENERIC}
first, second = A2AGrpcServer(1), A2AGrpcServer(2)
first.start(Greeter(), ADD)
second.start(None, generic("a.A"))
second.start(None, generic("b.B"))
def handler(body):
    if body["op"] == "stop":
        {{"first": first, "second": second}}[body["which"]].stop()
    else:
        first.start(Greeter(), ADD)
"""
        worker, serves = self.begin(main)
        self.assertEqual(serves["services"], ["greet.Greeter", "a.A", "b.B"])
        self.assertEqual((self.greet("x"), self.where("a.A"), self.where("b.B")), ("hello x", b"a.A!", b"b.B!"))
        worker.ask({"op": "stop", "which": "second"})
        self.assertEqual(said(worker.next_of(0))["services"], ["greet.Greeter"])
        self.assertEqual(self.greet("x"), "hello x")
        for _ in range(2):
            worker.ask({"op": "stop", "which": "first"})
        self.assertEqual(said(worker.next_of(0)), {"services": [], "descriptors": []})
        self.assertFalse(os.path.exists(self.own))
        worker.ask({"op": "start"})
        self.assertEqual(said(worker.next_of(0))["services"], ["greet.Greeter"])
        self.assertEqual(self.greet("x"), "hello x")


@needs_grpc
class Beginnings(OwnServices):
    def test_while_the_agent_is_imported_from_the_main_thread_or_another(self) -> None:
        thread = "t = threading.Thread(target=lambda: A2AGrpcServer().start(Greeter(), ADD)); t.start(); t.join()\n"
        awaited = "async def go(): await A2AGrpcServer().start(Greeter(), ADD)\nasyncio.run(go())\n"
        waited = "asyncio.new_event_loop().run_until_complete(A2AGrpcServer().start(Greeter(), ADD))\n"
        for begin in ("A2AGrpcServer().start(Greeter(), ADD)\n", thread, awaited, waited):
            with self.subTest(begin=begin):
                worker, serves = self.begin(SERVICER + begin)
                self.assertEqual(serves["services"], ["greet.Greeter"])
                self.assertEqual(self.greet("x"), "hello x")
                self.end(worker)

    def test_in_the_factory_awaited_or_not_it_is_served_when_the_agent_is_ready(self) -> None:
        for start in (
            "def create():\n    A2AGrpcServer().start(Greeter(), ADD)\n",
            "async def create():\n    A2AGrpcServer().start(Greeter(), ADD)\n",
            "async def create():\n    await A2AGrpcServer().start(Greeter(), ADD)\n",
        ):
            with self.subTest(start=start):
                main = f"{SERVICER}{start}    return {{'custom_handlers': {{}}}}\n"
                worker, serves = self.begin(main, a2a_service="main:create")
                self.assertEqual(serves["services"], ["greet.Greeter"])
                self.assertEqual(self.greet("x"), "hello x")
                self.end(worker)

    def test_in_a_handler_awaited_or_not(self) -> None:
        server = "server = A2AGrpcServer()\n"
        plain = "def handler(body): server.start(Greeter(), ADD) if body else server.stop()\n"
        awaited = "async def handler(body): await (server.start(Greeter(), ADD) if body else server.stop())\n"
        begun = "async def handler(body): server.start(Greeter(), ADD) if body else server.stop()\n"
        for handler in (plain, awaited, begun):
            with self.subTest(handler=handler):
                worker, serves = self.begin(SERVICER + server + handler)
                self.assertEqual(serves, {})
                worker.ask({"start": True})
                self.assertEqual(said(worker.next_of(0))["services"], ["greet.Greeter"])
                self.assertEqual(self.greet("x"), "hello x")
                worker.ask({})
                self.assertEqual(said(worker.next_of(0))["services"], [])
                self.end(worker)

    def test_an_event_loop_object_made_at_import_is_that_of_the_handlers(self) -> None:
        main = f"""{SERVICER}
before = asyncio.Lock()
A2AGrpcServer().start(Greeter(), ADD)
after = asyncio.Lock()
async def handler(body):
    for lock in (before, after):
        async with lock:
            waiting = asyncio.ensure_future(lock.acquire())
            await asyncio.sleep(0.01)
        await waiting
    return "held"
"""
        worker, _ = self.begin(main)
        self.assertEqual(worker.ask({}), "held")

    def test_a_loop_that_the_agent_blocks_does_not_keep_it_from_being_ready(self) -> None:
        main = f"{SERVICER}A2AGrpcServer().start(Greeter(), ADD)\nfrom par_harness import own_grpc\n"
        worker, _ = self.begin(main + "own_grpc.own.start_loop().call_soon_threadsafe(time.sleep, 600)\n")
        worker.wait_for_output("stderr", b"did not start in time")


@needs_grpc
class Servicers(OwnServices):
    def test_a_factory_may_return_a_servicer_of_generated_code(self) -> None:
        main = SERVICER + "class Derived(Greeter): pass\n"
        _, serves = self.begin(main, a2a_service="main:Derived")
        self.assertEqual(serves["services"], ["greet.Greeter"])
        self.assertEqual(self.ready["actions"], ["invoke"])
        self.assertEqual(self.greet("x"), "hello x")

    def test_a_servicer_with_custom_handlers_gives_both(self) -> None:
        main = SERVICER + "class Both(Greeter):\n    custom_handlers = {'upper': lambda p: p['text'].upper()}\n"
        worker, serves = self.begin(main, a2a_service="main:Both")
        self.assertEqual(serves["services"], ["greet.Greeter"])
        self.assertEqual(worker.ask({"text": "a"}, "\0upper"), "A")
        self.assertEqual(self.greet("x"), "hello x")

    def test_what_cannot_be_served_is_no_agent(self) -> None:
        nowhere = os.path.join(os.path.dirname(self.own), "no folder", "socket")
        for load, detail in (
            ({"own_grpc_socket": None}, "this worker has no socket for one"),
            ({"own_grpc_socket": nowhere}, "A2A service `main:Greeter` cannot be served: RuntimeError: Failed to bind"),
        ):
            worker = self.launch({"main.py": SERVICER}, a2a_service="main:Greeter", **load)
            kind, body = worker.next_of(0)
            self.assertEqual(kind, frames.ERROR)
            self.assertIn(detail, json.loads(body)["detail"])

    def test_handlers_without_a_service_s_name_are_refused(self) -> None:
        import_error = (
            "A2AGrpcServer().start(None, lambda servicer, server: server.add_generic_rpc_handlers([object()]))\n"
        )
        for start, detail in (
            (import_error, "a handler has to name its service"),
            ("A2AGrpcServer().start(None, lambda servicer, server: None)\n", "has added no service"),
        ):
            worker = self.launch({"main.py": SERVICER + start})
            self.assertIn(detail, json.loads(worker.next_of(0)[1])["detail"])


@needs_grpc
class OnBehalf(OwnServices):
    def test_a_servicer_speaks_for_the_call_that_the_worker_names_and_for_no_other(self) -> None:
        main = f"""{SERVICER}
from par_harness.current import current_call
class Whose(Greeter):
    async def Greet(self, request, context): return greet_pb2.Answer(text=str(current_call.get()))
class WhoseBlocking(Greeter):
    def Greet(self, request, context): return greet_pb2.Answer(text=str(current_call.get()))
def handler(body): A2AGrpcServer().start(globals()[body["servicer"]](), ADD)
"""
        worker, _ = self.begin(main)
        for servicer in ("Whose", "WhoseBlocking"):
            worker.ask({"servicer": servicer})
            self.assertEqual(said(worker.next_of(0))["services"], ["greet.Greeter"])
            self.assertEqual(self.greet("x", metadata=(("x-par-call", "12"),)), "12")
            self.assertEqual(self.greet("x"), "0")


@needs_grpc
class Ends(OwnServices):
    def stop_while(self, seconds: int) -> tuple[float, object]:
        worker, _ = self.begin(SERVICER + "A2AGrpcServer().start(Greeter(), ADD)\n")
        outcome: list[object] = []

        def call() -> None:
            try:
                outcome.append(self.greet("slow", seconds))
            except Exception as error:
                outcome.append(error)

        calling = threading.Thread(target=call)
        calling.start()
        worker.wait_for_output("stdout", b"begun")
        began = time.monotonic()
        self.assertEqual(worker.stop(), 0)
        took = time.monotonic() - began
        calling.join()
        self.assertNotIn(b"Traceback", worker.output["stderr"])
        return took, outcome[0]

    def test_a_call_that_ends_soon_is_answered_before_the_process_ends(self) -> None:
        took, outcome = self.stop_while(0)
        self.assertEqual(outcome, "hello slow")
        self.assertLess(took, 1.5)

    def test_a_call_that_does_not_end_holds_up_the_end_for_a_second(self) -> None:
        took, outcome = self.stop_while(600)
        self.assertNotIsInstance(outcome, str)
        self.assertLess(took, 3)
        self.assertFalse(os.path.exists(self.own))

    def test_a_blocked_loop_does_not_keep_the_process(self) -> None:
        main = (
            SERVICER + "A2AGrpcServer().start(Greeter(), ADD)\nclass Stuck(Greeter):\n"
            "    async def Greet(self, request, context):\n        print('begun')\n        time.sleep(600)\n"
            "A2AGrpcServer().start(Stuck(), ADD)\n"
        )
        worker, _ = self.begin(main)
        threading.Thread(target=lambda: self.assertRaises(Exception, self.greet, "x")).start()
        worker.wait_for_output("stdout", b"begun")
        self.assertEqual(worker.stop(), 0)
        worker.wait_for_output("stderr", b"did not stop in time")

    def test_what_the_agent_runs_beside_its_server_is_not_ended_by_it(self) -> None:
        main = f"""{SERVICER}
import subprocess
A2AGrpcServer().start(Greeter(), ADD)
def handler(body): return [subprocess.run(["true"]).returncode for _ in range(20)]
"""
        worker, _ = self.begin(main)
        for _ in range(5):
            self.greet("x")
            self.assertEqual(worker.ask({}), [0] * 20)
        self.assertEqual(worker.output["stderr"], b"")

    def test_a_forked_program_does_not_serve_and_the_agent_still_does(self) -> None:
        main = (
            SERVICER + "server = A2AGrpcServer()\nserver.start(Greeter(), ADD)\n"
            "def main():\n    server.stop()\n    print('{\"done\": true}')\n"
        )
        worker, _ = self.begin(main, entrypoint="main:main")
        self.assertEqual(worker.ask({}), {"done": True})
        self.assertEqual(self.greet("x"), "hello x")


@needs_grpc
class OutsideTheRuntime(OwnServices):
    def run_program(self, text: str) -> str:
        """What `python agent.py` prints: the same modules, and no harness."""
        folder = os.path.dirname(self.own)
        for name, content in {**STUBS, "agent.py": SERVICER + text}.items():
            with open(os.path.join(folder, os.path.basename(name)), "w", encoding="utf-8") as file:
                file.write(content)
        ran = subprocess.run(
            [sys.executable, os.path.join(folder, "agent.py")],
            env={**os.environ, "PYTHONPATH": PYTHON_FOLDER},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        return ran.stdout

    def test_it_listens_on_its_port_and_is_called_there(self) -> None:
        call = """
from pixell_agent_runtime.a2a_grpc_client import A2AGrpcClient
async def greet(port):
    client = A2AGrpcClient()
    answer = await client.call_grpc_method("any", port, "greet.Greeter", "Greet", greet_pb2.Ask(name="Ada"))
    print(answer.text)
    await client.close()
server = A2AGrpcServer(0)
"""
        plain = "server.start(Greeter(), ADD)\nasyncio.run(greet(server.port))\nserver.stop()\nserver.stop()\n"
        awaited = """
async def main():
    await server.start(Greeter(), ADD)
    await greet(server.port)
    await server.stop()
asyncio.run(main())
"""
        mixed = """
loop = asyncio.new_event_loop()
async def main(): await server.start(Greeter(), ADD)
loop.run_until_complete(main())
loop.run_until_complete(greet(server.port))
server.stop()
loop.close()
server.stop()
"""
        for text in (plain, awaited, mixed):
            with self.subTest(text=text):
                self.assertEqual(self.run_program(call + text), "hello Ada\n")


if __name__ == "__main__":
    unittest.main()
