"""What a call brings: code, variables, files, and the state of an earlier process of the same session."""

from __future__ import annotations

from keyword import kwlist
from os import O_CLOEXEC, O_CREAT, O_EXCL, O_WRONLY, makedirs, unlink
from os import close as close_fd
from os import open as open_fd
from os import write as write_fd

from par_session.msgpack import BadMessage, decode
from par_session.variables import FILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# `__debug__` is a constant that cannot be assigned to either.
KEYWORDS = frozenset((*kwlist, "__debug__"))


class InputRefused(Exception):
    """The call cannot be run; the text says why."""


class Inputs:
    """The body of a call: a map of these four, of which only the code has to be there."""

    def __init__(self, body: bytes) -> None:
        try:
            fields = decode(body)
        except BadMessage as error:
            raise InputRefused(f"call: {error}") from None
        if type(fields) is not dict or "code" not in fields:
            raise InputRefused("call: a map with `code` is needed")
        self.code: str = _typed(fields, "code", "")
        self.context: dict[str, bytes] = _typed(fields, "context", {})
        self.files: list[bytes] = _typed(fields, "files", [])
        self.restore: dict[str, bytes] = _typed(fields, "restore", {})
        if any(type(file) is not bytes for file in self.files):
            raise InputRefused("call: `files` are not all binary")

    def restored(self) -> dict[str, Any]:
        return {name: _decoded("restore", name, value) for name, value in self.restore.items()}

    def variables(self) -> dict[str, Any]:
        for name in self.context:
            if type(name) is not str or not name.isidentifier() or name in KEYWORDS:
                raise InputRefused(f"context `{name}`: not a name that a variable can have")
        return {name: _decoded("context", name, value) for name, value in self.context.items()}

    def write_files(self, folder: str) -> dict[str, Any]:
        """The variable that lists them, if there are any."""
        paths = [f"{folder}/file_{number}" for number in range(len(self.files))]
        for path, content in zip(paths, self.files):
            _write(path, folder, content)
        return {FILES: paths} if paths else {}


def _typed(fields: dict[Any, Any], name: str, default: Any) -> Any:
    value = fields.get(name, default)
    if type(value) is not type(default):
        raise InputRefused(f"call: `{name}` is not of type {type(default).__name__}")
    return value


def _decoded(what: str, name: Any, value: Any) -> Any:
    if type(value) is not bytes:
        raise InputRefused(f"{what} `{name}`: its value is not binary")
    try:
        return decode(value)
    except BadMessage as error:
        raise InputRefused(f"{what} `{name}`: {error}") from None


def _write(path: str, folder: str, content: bytes) -> None:
    try:
        makedirs(folder, exist_ok=True)
        try:
            # An earlier run may have it open or mapped, or may have made it a link to somewhere else.
            unlink(path)
        except FileNotFoundError:
            pass
        fd = open_fd(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[write_fd(fd, rest) :]
        finally:
            close_fd(fd)
    except OSError as error:
        raise InputRefused(f"file `{path}`: {error.strerror}") from None
