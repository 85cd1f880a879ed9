"""One pass over a plain value: its MessagePack, and copies of its containers from which they can be put back.

Plain are None, bool, int, float, str, bytes, bytearray, list, tuple, dict, what derives from these, and NumPy's scalars.
"""

from __future__ import annotations

from _operator import is_ as _is
from sys import modules

from par_session.msgpack import MAX_DEPTH, OF_SCALAR, NotMessage, array_head, map_head, of_bytes, of_str

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # A container and what it held.
    Kept = tuple[Any, Any]

KEYS = frozenset((str, int, float, bool, bytes))


class TooLarge(Exception):
    """There is no room for the value."""


class Walk:
    """What `add` has found: `exact` if the bytes give back an equal value of the same types, `restorable` if `kept`
    is enough to undo what may happen to the value."""

    __slots__ = ("out", "exact", "restorable", "kept", "_bytes", "_items")

    def __init__(self, most_bytes: int, most_items: int) -> None:
        self.out = bytearray()
        self.exact = True
        self.restorable = True
        self.kept: list[Kept] = []
        self._bytes = most_bytes
        self._items = most_items

    def items_left(self) -> int:
        return self._items

    def add(self, value: Any, depth: int = 0) -> None:
        """Raises `NotMessage` or `TooLarge`; the walk is of no more use then."""
        kind = type(value)
        if kind is list:
            items = value.copy()  # other threads may change it meanwhile
            self.kept.append((value, items))
            self._array(items, depth)
        elif kind is dict:
            items = value.copy()
            self.kept.append((value, items))
            self._map(items, depth)
        elif type(kind) is not type or kind not in OF_SCALAR:
            self._other(value, kind, depth)
        else:
            if (kind is str or kind is bytes) and len(value) > self._bytes - len(self.out):
                raise TooLarge
            self.out += OF_SCALAR[kind](value)

    def _enter(self, items: int, depth: int) -> None:
        if depth == MAX_DEPTH:
            raise NotMessage(f"more than {MAX_DEPTH} containers in each other")
        self._items -= items
        # Every item will take a byte.
        if self._items < 0 or len(self.out) + items > self._bytes:
            raise TooLarge

    def _array(self, items: Any, depth: int) -> None:
        self._enter(len(items), depth)
        self.out += array_head(len(items))
        add, below = self.add, depth + 1
        for item in items:
            add(item, below)
        if len(self.out) > self._bytes:
            raise TooLarge

    def _map(self, items: dict[Any, Any], depth: int) -> None:
        self._enter(2 * len(items), depth)
        self.out += map_head(len(items))
        add, below = self.add, depth + 1
        for key, item in items.items():
            if type(key) is str:
                self.out += of_str(key)
            else:
                self._key(key)
            add(item, below)
        if len(self.out) > self._bytes:
            raise TooLarge

    def _key(self, key: Any) -> None:
        plain = _plain_scalar(key)
        if type(plain) not in KEYS:
            raise NotMessage("a key that is neither text nor a number")
        if plain is not key:
            self.exact = False
        self.out += OF_SCALAR[type(plain)](plain)

    def _other(self, value: Any, kind: type, depth: int) -> None:
        self.exact = False
        if kind is tuple:
            self._array(value, depth)
        elif kind is bytearray:
            plain = bytes(value)
            self.kept.append((value, plain))
            if len(plain) > self._bytes - len(self.out):
                raise TooLarge
            self.out += of_bytes(plain)
        elif issubclass(kind, (list, tuple)):
            self.restorable = False
            self._array(list.copy(value) if issubclass(kind, list) else tuple.__getitem__(value, slice(None)), depth)
        elif issubclass(kind, dict):
            self.restorable = False
            self._map(dict.copy(value), depth)
        else:
            plain = _plain_scalar(value)
            if plain is _NOTHING:
                raise NotMessage(f"a value of type {kind}")
            self.add(plain, depth)


_NOTHING = object()


def _plain_scalar(value: Any) -> Any:
    """The plain scalar that this is, or derives from, or that NumPy made it of; `_NOTHING` if there is none."""
    kind = type(value)
    if type(kind) is type and kind in OF_SCALAR:
        return value
    generic = getattr(modules.get("numpy"), "generic", None)
    if type(generic) is type and issubclass(kind, generic):
        item = value.item()
        return item if type(item) in OF_SCALAR else _NOTHING
    for base, plain_of in _DERIVED:
        if issubclass(kind, base):
            return plain_of(value)
    return _NOTHING


# The values of derived classes, without asking the class.
_DERIVED: tuple[tuple[type, Any], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, lambda value: b"".join((value,))),
)


def put_back(kept: list[Kept]) -> None:
    """Gives the containers what they held. The same objects, so that whoever else has them sees it too."""
    for container, held in kept:
        kind = type(container)
        if kind is dict:
            if not _same_items(container, held):
                container.clear()
                container.update(held)
        elif kind is set:
            if container != held:
                container.clear()
                container.update(held)
        elif kind is bytearray:
            if container != held:
                container[:] = held
        elif not _same_list(container, held):
            container[:] = held


def _same_list(container: list[Any], held: list[Any]) -> bool:
    """The very same items. Whether they are equal would be for their classes to say, and not enough."""
    return len(container) == len(held) and all(map(_is, container, held))


def _same_items(container: dict[Any, Any], held: dict[Any, Any]) -> bool:
    return (
        len(container) == len(held)
        and all(map(_is, container, held))
        and all(map(_is, container.values(), held.values()))
    )
