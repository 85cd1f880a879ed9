"""An agent calls another: through the channel when it runs here, over HTTP anywhere else."""

from __future__ import annotations

import asyncio
import json
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer

from fake_worker import FakeWorker, HarnessTest, frames

from pixell_agent_runtime.a2a_client import A2AClient

SYNC = """
from pixell_agent_runtime.a2a_client import get_a2a_client
def handler(body):
    try:
        return {"answer": get_a2a_client().call_sync("other agent", "get/info", body)}
    except Exception as error:
        return {"error": str(error)}
"""
ASYNC = SYNC.replace("def handler", "async def handler").replace(
    "get_a2a_client().call_sync", "await get_a2a_client().call"
)
TASKS = """
import asyncio
from pixell_agent_runtime.a2a_client import get_a2a_client
async def handler(body):
    return await asyncio.gather(*[asyncio.create_task(get_a2a_client().call("b", "m", n)) for n in range(3)])
"""
PROGRAM = """
import json, sys
from pixell_agent_runtime.a2a_client import get_a2a_client
def main():
    request = json.load(sys.stdin)
    print(json.dumps({"answer": get_a2a_client().call_sync("other agent", "get/info", {"n": request["n"]})}))
"""


def asked(worker: FakeWorker) -> tuple[int, dict, object]:
    """The next outbound call: its id, head and body."""
    id, body = worker.next_of(frames.OUTBOUND_BIT)
    size = int.from_bytes(body[:2], "big")
    return id, json.loads(body[2 : 2 + size]), json.loads(body[2 + size :])


def answer(worker: FakeWorker, id: int, value: object, status: int = 200) -> None:
    worker.send(id, frames.RESULT, status.to_bytes(2, "big") + json.dumps(value).encode())


class ThroughTheChannel(HarnessTest):
    def test_a_call_names_the_agent_the_path_and_the_call_that_caused_it(self) -> None:
        for source in (SYNC, ASYNC):
            worker = self.start(source)
            first, second = worker.call({"n": 1}), worker.call({"n": 2})
            for _ in range(2):
                id, head, body = asked(worker)
                self.assertEqual((head["agent"], head["path"]), ("other agent", "/exports/get%2Finfo"))
                self.assertEqual(head["parent"], {1: first, 2: second}[body["n"]])  # type: ignore[index]
                answer(worker, id, {"to": body})
            self.assertEqual(worker.result(first), {"answer": {"to": {"n": 1}}})
            self.assertEqual(worker.result(second), {"answer": {"to": {"n": 2}}})

    def test_tasks_of_a_handler_speak_for_its_call(self) -> None:
        worker = self.start(TASKS)
        call = worker.call()
        for _ in range(3):
            id, head, body = asked(worker)
            self.assertEqual(head["parent"], call)
            answer(worker, id, body)
        self.assertEqual(worker.result(call), [0, 1, 2])

    def test_a_program_calls_through_its_parent(self) -> None:
        worker = self.start(PROGRAM, entrypoint="main:main")
        call = worker.call({"n": 1})
        id, head, body = asked(worker)
        self.assertEqual((head["agent"], head["parent"], body), ("other agent", call, {"n": 1}))
        answer(worker, id, "yes")
        self.assertEqual(worker.result(call), {"answer": "yes"})

    def test_anything_but_200_is_an_error_with_status_and_text(self) -> None:
        worker = self.start(SYNC)
        call = worker.call()
        answer(worker, asked(worker)[0], {"detail": "Agent ghost not found"}, 404)
        text = 'A2A call failed: 404 - {"detail": "Agent ghost not found"}'
        self.assertEqual(worker.result(call), {"error": text})

    def test_a_call_that_cannot_be_made_is_an_error_with_its_reason(self) -> None:
        worker = self.start(ASYNC)
        call = worker.call()
        failure = {"kind": "unreachable", "detail": "no supervisor"}
        worker.send(asked(worker)[0], frames.ERROR, json.dumps(failure).encode())
        self.assertEqual(worker.result(call), {"error": "A2A call failed: no supervisor"})

    def test_a_cancelled_call_cancels_what_it_asked_for(self) -> None:
        for source in (SYNC.replace("Exception", "ValueError"), ASYNC.replace("Exception", "ValueError")):
            worker = self.start(source)
            call = worker.call()
            id, _, _ = asked(worker)
            worker.send(call, frames.CANCEL)
            self.assertEqual(worker.next_of(id), (frames.CANCEL, b""))
            self.assertIn(worker.failure(call)["kind"], ("cancelled", "raised"))


class OverHttp(unittest.TestCase):
    def setUp(self) -> None:
        seen = self.seen = []

        class Supervisor(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                seen.append((self.path, json.loads(body)))
                self.send_response(200 if "ghost" not in self.path else 404)
                self.end_headers()
                self.wfile.write(b'{"x":1}')

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Supervisor)
        serving = threading.Thread(target=self.server.serve_forever)
        serving.start()
        self.addCleanup(serving.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.client = A2AClient(f"http://127.0.0.1:{self.server.server_port}/")

    def test_a_call_is_a_post_to_the_supervisor(self) -> None:
        self.assertEqual(asyncio.run(self.client.call("a b", "greet", {"n": 1})), {"x": 1})
        self.assertEqual(self.client.call_sync("a", "greet"), {"x": 1})
        self.assertEqual(self.seen, [("/agents/a%20b/exports/greet", {"n": 1}), ("/agents/a/exports/greet", {})])

    def test_anything_but_200_is_an_error_with_status_and_text(self) -> None:
        with self.assertRaises(Exception) as raised:
            self.client.call_sync("ghost", "greet")
        self.assertEqual(str(raised.exception), 'A2A call failed: 404 - {"x":1}')


if __name__ == "__main__":
    unittest.main()
