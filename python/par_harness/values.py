"""JSON in and out, at the speed of the C scanner and encoder.

Answers may hold what FastAPI's encoder accepts: sets, dates, enums, dataclasses, models. Bytes, NaN and objects
that it would guess at are refused.
"""

from __future__ import annotations

import sys
from json import JSONDecoder, JSONEncoder
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class NotJson(Exception):
    """The answer cannot be JSON."""


class BadJson(Exception):
    """The body is not JSON, or not what the handler takes. The text says where or why; the worker says what."""


def decode(text: str) -> Any:
    try:
        value, end = _scan(text, 0)
        if end == len(text):
            return value
    except StopIteration:
        pass
    except (ValueError, RecursionError) as error:
        raise BadJson(str(error)) from error
    return _decode_slowly(text)


def encode(value: Any) -> bytes:
    try:
        text = "".join(_chunks(value, 0))
    except RecursionError as error:
        raise NotJson("the answer is not JSON: it is nested too deeply, or contains itself") from error
    except (TypeError, ValueError) as error:
        raise NotJson(f"the answer is not JSON: {error}") from error
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8, but it has an escape.
        return JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain).encode(value).encode()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


_decoder = JSONDecoder(parse_constant=_refuse_constant)
_scan = _decoder.scan_once  # type: ignore[attr-defined]


def _decode_slowly(text: str) -> Any:
    """White space around the value, or the error that says where."""
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise BadJson(str(error)) from error


def _plain(value: Any) -> Any:
    """What the encoder does not know, as what it does."""
    if isinstance(value, (set, frozenset)):
        return list(value)
    for method, keywords in (("model_dump", {"mode": "json"}), ("dict", {})):
        if hasattr(value, "__pydantic_validator__") or hasattr(value, "__fields_set__"):
            if callable(getattr(value, method, None)):
                return getattr(value, method)(**keywords)
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    for module, names, convert in _KNOWN:
        if module in sys.modules and isinstance(value, tuple(getattr(sys.modules[module], name) for name in names)):
            return convert(value)
    if hasattr(value, "__next__"):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _decimal(value: Any) -> int | float:
    return int(value) if value == value.to_integral_value() and value.as_tuple().exponent >= 0 else float(value)


# Types by the module that must have been imported before a value of theirs can exist.
_KNOWN: tuple[tuple[str, tuple[str, ...], Any], ...] = (
    ("enum", ("Enum",), lambda value: value.value),
    ("datetime", ("date", "time"), lambda value: value.isoformat()),
    ("datetime", ("timedelta",), lambda value: value.total_seconds()),
    ("decimal", ("Decimal",), _decimal),
    ("uuid", ("UUID",), str),
    ("pathlib", ("PurePath",), str),
    ("collections", ("deque", "UserDict", "UserList"), lambda value: getattr(value, "data", None) or list(value)),
    ("_collections_abc", ("KeysView", "ValuesView", "ItemsView"), list),
    ("builtins", ("range",), list),
)

# Made once: the public `encode` makes a new one for every value. No markers: threads would share them.
_chunks = c_make_encoder(None, _plain, encode_basestring, None, ":", ",", False, False, False)
