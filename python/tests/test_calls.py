"""One call: what goes in, what comes out."""

from __future__ import annotations

import unittest

from fake_worker import HarnessTest

ECHO = "def handler(body):\n    return {'echo': body}\n"


class Calls(HarnessTest):
    def test_a_function_is_called_with_the_body(self) -> None:
        worker = self.start(ECHO)
        self.assertEqual(
            self.ready, {"adapter": "function", "exports": ["invoke"], "actions": ["invoke"], "asgi": False}
        )
        self.assertEqual(worker.ask({"x": [1, None, "é"]}), {"echo": {"x": [1, None, "é"]}})

    def test_an_empty_body_is_an_empty_object(self) -> None:
        self.assertEqual(self.start(ECHO).ask(None), {"echo": {}})

    def test_an_async_function_is_awaited(self) -> None:
        worker = self.start("async def handler(body):\n    return body\n")
        self.assertEqual(worker.ask({"x": 1}), {"x": 1})

    def test_an_exception_is_an_error_with_its_message_and_the_agents_frames(self) -> None:
        worker = self.start("def handler(body):\n    raise ValueError('boom: žluť')\n")
        failure = worker.failure(worker.call())
        self.assertEqual((failure["kind"], failure["detail"]), ("raised", "boom: žluť"))
        self.assertIn("main.py", failure["traceback"])
        self.assertNotIn("par_harness", failure["traceback"])
        worker.wait_for_output("stderr", failure["traceback"].encode())

    def test_exit_in_a_handler_ends_the_call_and_not_the_process(self) -> None:
        worker = self.start("import sys\ndef handler(body):\n    return body if body else sys.exit(3)\n")
        self.assertEqual(worker.failure(worker.call())["detail"], "SystemExit: 3")
        self.assertEqual(worker.ask({"still": "here"}), {"still": "here"})

    def test_stop_ends_the_process_with_code_0(self) -> None:
        self.assertEqual(self.start(ECHO).stop(), 0)


if __name__ == "__main__":
    unittest.main()
