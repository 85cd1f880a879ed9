"""MessagePack: what is encoded comes back, and what is not MessagePack is refused with a reason."""

from __future__ import annotations

import math
import random
import unittest

from session_worker import msgpack
from par_session.msgpack import BadMessage, NotMessage

# From the specification, by hand: bytes and the value that they are.
WRITTEN = (
    (b"\xc0", None),
    (b"\xc2", False),
    (b"\xc3", True),
    (b"\x00", 0),
    (b"\x7f", 127),
    (b"\xcc\x80", 128),
    (b"\xcd\x01\x00", 256),
    (b"\xce\x00\x01\x00\x00", 1 << 16),
    (b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00", 1 << 32),
    (b"\xcf" + b"\xff" * 8, (1 << 64) - 1),
    (b"\xff", -1),
    (b"\xe0", -32),
    (b"\xd0\xdf", -33),
    (b"\xd1\xff\x7f", -129),
    (b"\xd2\xff\xff\x7f\xff", -(1 << 15) - 1),
    (b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff", -(1 << 31) - 1),
    (b"\xd3\x80" + b"\x00" * 7, -(1 << 63)),
    (b"\xcb\x3f\xf8" + b"\x00" * 6, 1.5),
    (b"\xa0", ""),
    (b"\xa2\xc3\xa9", "é"),
    (b"\xd9\x20" + b"a" * 32, "a" * 32),
    (b"\xda\x01\x00" + b"a" * 256, "a" * 256),
    (b"\xdb\x00\x01\x00\x00" + b"a" * 65536, "a" * 65536),
    (b"\xc4\x01\xff", b"\xff"),
    (b"\xc5\x01\x00" + b"b" * 256, b"b" * 256),
    (b"\xc6\x00\x01\x00\x00" + b"b" * 65536, b"b" * 65536),
    (b"\x92\x01\x02", [1, 2]),
    (b"\xdc\x00\x10" + b"\x00" * 16, [0] * 16),
    (b"\xdd\x00\x01\x00\x00" + b"\x00" * 65536, [0] * 65536),
    (b"\x81\xa1a\x90", {"a": []}),
    (b"\xde\x00\x10" + b"".join(bytes((n, 0xC0)) for n in range(16)), {n: None for n in range(16)}),
)
# What only others write.
ALSO_READ = ((b"\xca\x3f\xc0\x00\x00", 1.5), (b"\xcd\x00\x01", 1), (b"\xd3" + b"\x00" * 7 + b"\x05", 5))
REFUSED = (
    (b"", "cut off"),
    (b"\xcc", "cut off"),
    (b"\xcf\x00", "cut off"),
    (b"\xa2a", "cut off"),
    (b"\xc4\x05a", "cut off"),
    (b"\x92\x01", "cut off"),
    (b"\xdd\xff\xff\xff\xff", "cut off: 4294967295 items"),
    (b"\xdf\xff\xff\xff\xff\x00", "cut off"),
    (b"\x81\x01", "cut off"),
    (b"\x01\x01", "ends at byte 1 of 2"),
    (b"\xc1", "0xc1"),
    (b"\xd4\x00\x00", "0xd4"),
    (b"\xc7\x00\x00", "0xc7"),
    (b"\xa1\xff", "not UTF-8"),
    (b"\x81\x90\x01", "key at byte 1 is a container"),
    (b"\x82\x01\x01\x01\x01", "equals an earlier one"),
    (b"\x91" * 65 + b"\x00", "64 containers"),
)


class MessagePack(unittest.TestCase):
    def test_the_specification_s_forms_are_written_and_read(self) -> None:
        for data, value in WRITTEN:
            with self.subTest(data=data[:12]):
                self.assertEqual(msgpack.encode(value), data)
                self.assertEqual(msgpack.decode(data), value)
                self.assertIs(type(msgpack.decode(data)), type(value))

    def test_longer_forms_of_others_are_read(self) -> None:
        for data, value in ALSO_READ:
            self.assertEqual(msgpack.decode(data), value)

    def test_what_is_not_one_value_is_refused_with_a_reason(self) -> None:
        for data, reason in REFUSED:
            with self.subTest(data=data), self.assertRaises(BadMessage) as caught:
                msgpack.decode(data)
            self.assertIn(reason, str(caught.exception))

    def test_what_has_no_exact_form_is_not_written(self) -> None:
        deep: list[object] = []
        for _ in range(64):
            deep = [deep]
        for value in (1 << 64, -(1 << 63) - 1, "\ud800", (1,), {1}, object(), deep):
            with self.assertRaises(NotMessage):
                msgpack.encode(value)

    def test_the_deepest_value_that_is_written_is_read(self) -> None:
        deep: list[object] = []
        for _ in range(63):
            deep = [deep]
        self.assertEqual(msgpack.decode(msgpack.encode(deep)), deep)

    def test_unusual_floats_come_back(self) -> None:
        self.assertTrue(math.isnan(msgpack.decode(msgpack.encode(math.nan))))
        self.assertEqual(math.copysign(1, msgpack.decode(msgpack.encode(-0.0))), -1)

    def test_any_value_comes_back_and_no_cut_of_it_does(self) -> None:
        chance = random.Random(11)
        for _ in range(300):
            value = any_value(chance, 4)
            data = msgpack.encode(value)
            self.assertEqual(repr(msgpack.decode(data)), repr(value))
            with self.assertRaises(BadMessage):
                msgpack.decode(data[: chance.randrange(len(data))])

    def test_any_bytes_are_a_value_or_refused(self) -> None:
        chance = random.Random(12)
        for _ in range(5_000):
            data = bytes(chance.randrange(256) for _ in range(chance.randrange(12)))
            try:
                msgpack.decode(data)
            except BadMessage:
                pass


def any_value(chance: random.Random, depth: int) -> object:
    kind = chance.randrange(9 if depth else 7)
    if kind == 0:
        return chance.choice((None, True, False))
    if kind in (1, 2):
        return chance.choice((1, -1)) * (1 << chance.randrange(63)) + chance.randrange(-1, 2)
    if kind == 3:
        return chance.uniform(-1e9, 1e9)
    if kind in (4, 5):
        return "".join(chance.choice("aé€😀\0\n") for _ in range(chance.choice((0, 5, 31, 32, 300))))
    if kind == 6:
        return bytes(chance.randrange(256) for _ in range(chance.choice((0, 3, 256))))
    items = [any_value(chance, depth - 1) for _ in range(chance.choice((0, 1, 5, 17)))]
    if kind == 7:
        return items
    return {chance.choice((f"k{n}", n, -1.5 - n, b"%d" % n)): item for n, item in enumerate(items)}


if __name__ == "__main__":
    unittest.main()
