"""What protobuf knows of the agent's services, so that the worker can answer reflection for them."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Bytes of all files together.
MOST = 1 << 20


def descriptors_of(services: list[str]) -> list[str]:
    """The files of these services, each once and after those it imports, as base64; none when they are too large."""
    descriptor_pool = sys.modules.get("google.protobuf.descriptor_pool")
    if descriptor_pool is None:
        return []  # who has generated code has imported it
    pool = descriptor_pool.Default()
    files: dict[str, bytes] = {}
    for service in services:
        try:
            _add(pool.FindServiceByName(service).file, files)
        except KeyError:
            pass  # generic handlers need no descriptor
    if sum(map(len, files.values())) > MOST:
        return []
    from base64 import b64encode

    return [b64encode(file).decode() for file in files.values()]


def _add(file: Any, files: dict[str, bytes]) -> None:
    if file.name in files:
        return
    for imported in file.dependencies:
        _add(imported, files)
    files[file.name] = file.serialized_pb
