"""Our modules keep the builtins that they were loaded with.

The code of a session may replace `print`, `open` or `__import__` for itself, and its next run must still be answered.
A module whose globals name a `__builtins__` of its own is compiled against that one, and so are its functions.
"""

from __future__ import annotations

import builtins
import sys

# The machinery itself; `importlib.machinery`, which hands it out, is an import more.
from _frozen_importlib_external import FileFinder, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SUFFIX = ".py"


def load_with_own_builtins(folders: tuple[str, ...]) -> None:
    """Modules in these folders that are imported from now on share a copy of the builtins."""
    own = dict(vars(builtins))
    module_type = type(sys)

    class Loader(SourceFileLoader):
        def create_module(self, spec: ModuleSpec) -> ModuleType:
            module = module_type(spec.name)
            vars(module)["__builtins__"] = own
            return module

    def hook(path: str) -> FileFinder:
        if path not in folders:
            raise ImportError("not a folder of ours", path=path)
        return FileFinder(path, (Loader, [SUFFIX]))

    for folder in folders:
        sys.path_importer_cache.pop(folder, None)
    sys.path_hooks.insert(0, hook)
