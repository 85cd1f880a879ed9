"""Where compiled Python goes: beside nobody's sources but into the agent's own folder.

`sys.pycache_prefix` would do that for every module, and so hide what the standard library and the environment have
compiled already: the first start of an agent that imports asyncio would take half a second longer.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType


def keep_bytecode_of(folders: list[str], bytecode: str) -> None:
    """Modules under `folders` that are not compiled yet have their compiled form kept in `bytecode`."""

    class Loader(SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType | None:
            if _is_compiled(self.path):
                return super().get_code(fullname)
            usual = sys.pycache_prefix
            # Imports of other threads that fall into this moment miss a cache, and nothing else.
            sys.pycache_prefix = bytecode
            try:
                return super().get_code(fullname)
            finally:
                sys.pycache_prefix = usual

    ours = tuple(os.path.join(folder, "") for folder in folders)

    def hook(path: str) -> FileFinder:
        if not os.path.join(path, "").startswith(ours):
            raise ImportError("not a folder of the agent", path=path)
        return FileFinder(
            path,
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (Loader, SOURCE_SUFFIXES),
            (SourcelessFileLoader, BYTECODE_SUFFIXES),
        )

    sys.path_hooks.insert(0, hook)


def _is_compiled(source: str) -> bool:
    folder, name = os.path.split(source)
    stem = name.rpartition(".")[0]
    return os.path.exists(os.path.join(folder, "__pycache__", f"{stem}.{sys.implementation.cache_tag}.pyc"))
