"""What the worker is told of the namespace after a run, and what undoes the next one if it fails.

After each successful run every variable is packed once. That gives its MessagePack, and copies of the containers in
it. A failed run gets its bindings back from a copy of the namespace, and its containers from these copies.
"""

from __future__ import annotations

import sys

from par_session.msgpack import of_str
from par_session.reprs import CUT, LONGEST, TOO_LARGE, cut, short_repr
from par_session.walk import TooLarge, Walk, put_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from par_session.walk import Kept

# As in `types`, which is an import.
FunctionType, BuiltinFunctionType, ModuleType = type(lambda: None), type(len), type(sys)

MOST_ITEMS = 1_000_000
# Further ones are there for the code, and nobody else is told of them.
MOST_VARIABLES = 10_000
MOST_HIDDEN = 1_000
FILES = "files"
# What the maps of a result add to a value besides its name, at most.
AROUND_A_VALUE = 16
_STR_HEAD = 5
_MARK_SIZE = len(TOO_LARGE.encode())

_CONTAINERS = (list, dict, set, bytearray)
_SIZED = (list, dict, set, bytearray, tuple, frozenset)
_IMMUTABLE = (int, float, complex, str, bytes, range, frozenset, type, FunctionType, BuiltinFunctionType)
# While it is the same object, it packs to the same bytes; short ones are remembered.
_FIXED = frozenset((type(None), bool, int, float, str, bytes, FunctionType))
_LONGEST_REMEMBERED = 1 << 10


class Packed:
    """A value as it was when it was packed."""

    __slots__ = ("value", "encoded", "exact", "kept", "trace")

    def __init__(self, value: Any, encoded: bytes | None, exact: bool, kept: list[Kept], trace: Trace | None) -> None:
        self.value = value
        # None if there was no room at all.
        self.encoded = encoded
        self.exact = exact
        self.kept = kept
        # None if nothing can happen to it that `kept` would not undo.
        self.trace = trace


class Returned:
    """What goes into a result. It becomes the state to return to once the run is over."""

    def __init__(self) -> None:
        self.variables: dict[str, bytes] = {}
        self.extras: dict[str, bytes] = {}
        self.opaque: list[str] = []
        # Names that are not told, such as those of modules and `_private` ones.
        self.hidden: list[str] = []
        self.packed: dict[str, Packed] = {}


class Variables:
    def __init__(self, namespace: dict[str, Any], most_bytes: int) -> None:
        self._namespace = namespace
        self._most_bytes = most_bytes
        self._last: dict[str, Packed] = {}

    def returned(self, extras: dict[str, Any]) -> Returned:
        """All that fits: first what this run made, then the variables in the order of their making."""
        room = _Room(self._most_bytes)
        returned = Returned()
        for name, value in extras.items():
            packed = room.pack(name, value, None)
            if packed.encoded is not None:
                returned.extras[name] = packed.encoded
                if not packed.exact:
                    returned.opaque.append(name)
        last, packed_by_name = self._last, returned.packed
        hidden_room = _Room(self._most_bytes)
        for name, value in self._namespace.copy().items():
            if len(returned.variables) >= MOST_VARIABLES or not _is_variable(name, value):
                if _is_hidden(name):
                    self._hide(name, value, hidden_room, returned)
                continue
            packed = packed_by_name[name] = room.pack(name, value, last.get(name))
            if packed.encoded is not None:
                returned.variables[name] = packed.encoded
                if not packed.exact:
                    returned.opaque.append(name)
        return returned

    def _hide(self, name: str, value: Any, room: _Room, returned: Returned) -> None:
        """Nobody is told its value, but a failed run is undone in it too."""
        if len(returned.hidden) >= MOST_HIDDEN:
            return
        returned.hidden.append(name)
        if not issubclass(type(value), ModuleType):
            returned.packed[name] = room.pack(name, value, self._last.get(name))

    def commit(self, returned: Returned) -> None:
        for packed in returned.packed.values():
            if len(packed.encoded or b"") > _LONGEST_REMEMBERED or not _is_fixed(type(packed.value)):
                packed.encoded = None
        self._last = returned.packed

    def roll_back(self, before: dict[str, Any]) -> None:
        """Bindings as they were in this copy, containers as they were after the last successful run."""
        namespace = self._namespace
        for name in list(namespace):
            if name not in before:
                del namespace[name]
        namespace.update(before)
        for packed in self._last.values():
            try:
                put_back(packed.kept)
            except Exception:
                # Its items refuse to be compared, or its memory is in use elsewhere.
                packed.trace = Trace(None, False)

    def changed(self) -> list[str]:
        """After a roll-back: variables that may not be what they were. Asks their classes how they look."""
        namespace, most = self._namespace, self._most_bytes
        return [
            name
            for name, packed in self._last.items()
            if packed.trace is not None
            and namespace.get(name) is packed.value
            and packed.trace.differs(packed.value, most)
        ]


class Trace:
    """From what one sees whether a value has changed that cannot be put back: its looks, as a number.

    They are None if they say nothing, as those of a generator.
    """

    __slots__ = ("looks", "by_repr")

    def __init__(self, looks: int | None, by_repr: bool) -> None:
        self.looks = looks
        self.by_repr = by_repr

    def differs(self, value: Any, most_bytes: int) -> bool:
        if self.looks is None:
            return True
        try:
            if self.by_repr:
                return _looks(value, short_repr(value)) != self.looks
            walk = Walk(most_bytes, MOST_ITEMS)
            walk.add(value)
            return hash(bytes(walk.out)) != self.looks
        except Exception:
            return True


class _Room:
    """What is left of the limits on a result."""

    def __init__(self, most_bytes: int) -> None:
        self._bytes = most_bytes
        self._items = MOST_ITEMS

    def pack(self, name: str, value: Any, last: Packed | None) -> Packed:
        # The name may be listed as opaque too.
        room = self._bytes - 2 * _size(name) - AROUND_A_VALUE
        if last is not None and last.value is value and last.encoded is not None and len(last.encoded) <= room:
            packed = Packed(value, last.encoded, last.exact, last.kept, last.trace)
        else:
            packed = self._packed(value, room)
        if packed.encoded is not None:
            self._bytes = room - len(packed.encoded)
            self._items -= 1
        return packed

    def _packed(self, value: Any, room: int) -> Packed:
        walk = Walk(room, self._items - 1)
        refusal = _refusal(walk, value, room)
        if refusal is not None:
            return self._repr(value, room, refusal is TooLarge)
        self._items = walk.items_left() + 1
        encoded = bytes(walk.out)
        trace = None if walk.restorable else Trace(hash(encoded), False)
        return Packed(value, encoded, walk.exact, walk.kept, trace)

    def _repr(self, value: Any, room: int, too_large: bool) -> Packed:
        text = shown = short_repr(value)
        if too_large or _size(text) + _STR_HEAD > room:
            most = min(LONGEST, room - _STR_HEAD) - _MARK_SIZE
            shown = cut(text, most) + TOO_LARGE if most >= 0 else ""
        kind = type(value)
        kept = []
        if _is_exactly(kind, _CONTAINERS) and len(value) <= MOST_ITEMS:
            kept.append((value, bytes(value) if kind is bytearray else value.copy()))
        looks = None if too_large or text[-1:] == CUT else _looks(value, text)
        trace = None if issubclass(kind, _IMMUTABLE) else Trace(looks, True)
        return Packed(value, of_str(shown) if shown else None, False, kept, trace)


def _refusal(walk: Walk, value: Any, room: int) -> type | None:
    """Why the walk could not be made. Not as an exception: what is called next raises some that others will read."""
    try:
        walk.add(value)
        return None if len(walk.out) <= room else TooLarge
    except MemoryError:
        raise
    except Exception as why:  # the class of an item may raise anything
        return type(why)


def _is_variable(name: Any, value: Any) -> bool:
    # `globals()` takes anything for a name.
    return (
        type(name) is str
        and name[:1] != "_"
        and name != FILES
        and not issubclass(type(value), ModuleType)
        and (name.isascii() or name.isidentifier())
    )


def _is_hidden(name: Any) -> bool:
    """What the code has made and nobody is told of; not what every module has, nor what the session itself has put there."""
    return type(name) is str and name[:2] != "__" and name not in ("_", FILES)


def _is_fixed(kind: type) -> bool:
    # Classes of other kinds may refuse to be hashed.
    return type(kind) is type and kind in _FIXED


def _looks(value: Any, text: str) -> int | None:
    if text[:1] == "<" and " at 0x" in text and not issubclass(type(value), _SIZED):
        return None  # it says only where it is
    return hash((text, len(value) if _is_exactly(type(value), _SIZED) else 0))


def _is_exactly(kind: type, kinds: tuple[type, ...]) -> bool:
    """Without asking `kind`, whose own class may have a say in how it is compared."""
    return any(kind is one for one in kinds)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
