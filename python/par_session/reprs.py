"""What stands for a value that has no MessagePack form: its `repr`, which never grows far beyond what is kept of it."""

from __future__ import annotations

from par_session.interrupts import RunInterrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

LONGEST = 4 << 10
MOST_DEPTH = 32
# Containers with a `repr` of their own that hold more are only named.
MOST_ITEMS = 10_000
CUT = "…"
TOO_LARGE = " … (too large to return)"


def short_repr(value: Any) -> str:
    """At most `LONGEST` bytes of UTF-8, whatever the value is and whatever its `repr` does."""
    return cut(_Writer().write(value), LONGEST)


def cut(text: str, most: int) -> str:
    """Text that has a UTF-8 form of at most so many bytes."""
    if len(text) <= most and text.isascii():
        return text
    encoded = text[: most + 1].encode("utf-8", "backslashreplace")
    if len(encoded) <= most and len(text) <= most:
        return encoded.decode()
    return encoded[: max(0, most - len(CUT.encode()))].decode("utf-8", "ignore") + CUT


class _Full(Exception):
    """Enough has been written."""


class _Writer:
    """Writes the built-in containers item by item, so that it can stop."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._room = LONGEST + 1

    def write(self, value: Any) -> str:
        try:
            self._value(value, 0)
        except _Full:
            pass
        return "".join(self._parts)

    def _add(self, text: str) -> None:
        self._parts.append(text)
        self._room -= len(text)
        if self._room < 0:
            raise _Full

    def _value(self, value: Any, depth: int) -> None:
        kind = type(value)
        if kind is str or kind is bytes:
            # One more than there is room for, so that the end shows that it was cut.
            self._add(repr(value[: self._room + 1]))
        elif type(kind) is not type or kind not in _BRACKETS:  # classes of other kinds may refuse to be hashed
            self._add(_repr_of_other(value, kind))
        elif not value:
            self._add(_EMPTY[kind])
        elif depth == MOST_DEPTH:
            self._add("...")
        else:
            opening, closing = _BRACKETS[kind]
            self._add(opening)
            if kind is dict:
                self._pairs(value.copy(), depth)
            else:
                self._items(value if kind is tuple or kind is frozenset else value.copy(), depth)
            self._add(",)" if kind is tuple and len(value) == 1 else closing)

    def _items(self, items: Iterable[Any], depth: int) -> None:
        for number, item in enumerate(items):
            if number:
                self._add(", ")
            self._value(item, depth + 1)

    def _pairs(self, pairs: dict[Any, Any], depth: int) -> None:
        for number, (key, item) in enumerate(pairs.items()):
            if number:
                self._add(", ")
            self._value(key, depth + 1)
            self._add(": ")
            self._value(item, depth + 1)


_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    dict: ("{", "}"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}
_EMPTY: dict[type, str] = {list: "[]", tuple: "()", dict: "{}", set: "set()", frozenset: "frozenset()"}
_SIZED = (list, tuple, dict, set, frozenset, bytearray)


def _repr_of_other(value: Any, kind: type) -> str:
    for sized in _SIZED:
        if issubclass(kind, sized):
            size = sized.__len__(value)  # type: ignore[attr-defined]
            if size > MOST_ITEMS:
                return f"<{name_of(kind)} of {size} items>"
    try:
        text = repr(value)
        return text if type(text) is str else str.__str__(text)
    except (RunInterrupted, MemoryError):
        raise
    except BaseException as error:
        if kind is int:
            return f"<int of {value.bit_length()} bits>"  # Python refuses to write out very long ones
        return f"<{name_of(kind)} object whose repr raised {name_of(type(error))}>"


def name_of(kind: type) -> str:
    """A class may have a class that has its own idea of `__name__`."""
    return type.__dict__["__name__"].__get__(kind)  # type: ignore[no-any-return]
