"""JSON in and out."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import unittest
import uuid

from fake_worker import HarnessTest

from par_harness.values import BadJson, NotJson, decode, encode


@dataclasses.dataclass
class Point:
    x: int
    tags: set


class Colour(enum.Enum):
    RED = "red"


class Model:
    """What a pydantic model looks like from outside."""

    __pydantic_validator__ = object()

    def model_dump(self, mode: str) -> dict:
        return {"mode": mode}


class Answers(unittest.TestCase):
    def test_json_passes_unchanged_and_compact(self) -> None:
        value = [1, "two", 3.5, None, True, {"k": [], "ž": "🐎\0"}, 2**70, 0.1 + 0.2]
        self.assertEqual(json.loads(encode(value)), value)
        self.assertEqual(encode({"a": [1, 2]}), b'{"a":[1,2]}')
        self.assertEqual(encode("ž"), '"ž"'.encode())

    def test_what_fastapi_would_encode_is_encoded(self) -> None:
        cases = [
            ({1}, [1]),
            ({"s": frozenset((2,))}, {"s": [2]}),
            ((1, (2,)), [1, [2]]),
            (range(2), [0, 1]),
            ({"a": 1}.keys(), ["a"]),
            (collections.deque([1]), [1]),
            ([number for number in (1, 2)], [1, 2]),
            ({"g": (number for number in (1, 2))}, {"g": [1, 2]}),
            (Point(1, {2}), {"x": 1, "tags": [2]}),
            (Colour.RED, "red"),
            (Model(), {"mode": "json"}),
            (datetime.datetime(2020, 1, 2, 3, 4, 5), "2020-01-02T03:04:05"),
            (datetime.date(2020, 1, 2), "2020-01-02"),
            (datetime.timedelta(seconds=90), 90.0),
            (decimal.Decimal("1.5"), 1.5),
            (decimal.Decimal("3"), 3),
            (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (pathlib.Path("/a/b"), "/a/b"),
            ({1: "int", None: "none", False: "bool"}, {"1": "int", "null": "none", "false": "bool"}),
        ]
        for value, expected in cases:
            with self.subTest(value=value):
                self.assertEqual(json.loads(encode(value)), expected)

    def test_what_is_not_json_is_refused(self) -> None:
        circular: list = []
        circular.append(circular)
        refused = [
            float("nan"),
            [float("-inf")],
            b"x",
            {"o": object()},
            {(1,): 2},
            circular,
            decimal.Decimal("NaN"),
            Point,
        ]
        for value in refused:
            with self.subTest(value=type(value)), self.assertRaisesRegex(NotJson, "the answer is not JSON"):
                encode(value)

    def test_a_lone_surrogate_is_escaped(self) -> None:
        self.assertEqual(encode(["\ud800"]), b'["\\ud800"]')


class Bodies(unittest.TestCase):
    def test_json_is_decoded_with_white_space_around_it(self) -> None:
        self.assertEqual(decode(' {"n": 1180591620717411303424} \n'), {"n": 2**70})

    def test_what_is_not_json_is_refused_with_its_position(self) -> None:
        for text, words in (
            ("not json", r"line 1 column 1 \(char 0\)"),
            ('{"a": 1', "char 7"),
            ("[1] x", "Extra data"),
            ("", "char 0"),
            ("[NaN]", "NaN is not a JSON number"),
            ("[" * 200_000, "recursion|nested"),
        ):
            with self.subTest(text=text[:10]), self.assertRaisesRegex(BadJson, words):
                decode(text)


class ThroughTheHarness(HarnessTest):
    def test_bad_bodies_and_bad_answers_are_errors_of_their_own_kind(self) -> None:
        worker = self.start("def handler(body):\n    return float('nan') if body == {} else body\n")
        self.assertEqual(worker.failure(worker.call_raw(b"not json"))["kind"], "bad_json")
        self.assertEqual(worker.failure(worker.call_raw(b'"\xff"'))["kind"], "bad_json")
        failure = worker.failure(worker.call({}))
        self.assertEqual(failure["kind"], "not_json")
        self.assertIn("the answer is not JSON", failure["detail"])
        self.assertEqual(worker.ask("\ud800"), "\ud800")

    def test_what_is_too_large_for_a_frame_is_an_error_and_not_the_end(self) -> None:
        worker = self.start(
            "def handler(body):\n"
            "    if body == 'raise': raise ValueError('x' * 70_000_000)\n"
            "    return 'x' * 70_000_000 if body else 'small'\n"
        )
        self.assertIn("larger than 64 MiB", worker.failure(worker.call("large"))["detail"])
        self.assertLess(len(worker.failure(worker.call("raise"))["detail"]), 70_000)
        self.assertEqual(worker.ask({}), "small")


if __name__ == "__main__":
    unittest.main()
