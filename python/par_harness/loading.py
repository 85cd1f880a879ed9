"""The package becomes importable, and its `module:attribute` names become objects."""

from __future__ import annotations

import os
import sys

from par_harness.bytecode import keep_bytecode_of
from par_harness.failures import detail_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Load:
    """What the worker wants loaded; `crates/par-protocol/src/harness.rs` describes it."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.root: str = fields["root"]
        self.site: list[str] = fields["site"]
        self.entrypoint: str | None = fields["entrypoint"]
        self.exports: list[dict[str, Any]] = fields["exports"]
        self.rest_entry: str | None = fields["rest_entry"]
        self.asgi_app: str | None = fields["asgi_app"]
        self.concurrency: int = fields["concurrency"]
        self.bytecode: str = fields["bytecode"]
        self.a2a_service: str | None = fields.get("a2a_service")
        self.own_grpc_socket: str | None = fields.get("own_grpc_socket")
        self.grpc_door: str | None = fields.get("grpc_door")
        self.mark: str | None = fields.get("mark")


# What a package has to ask for when it imports what is not there; its name on PyPI is not that of its module.
_REQUIREMENTS = {
    "grpc": "grpcio",
    "grpc_reflection": "grpcio-reflection",
    "google": "protobuf",
    "google.protobuf": "protobuf",
}


class LoadFailure(Exception):
    """Why the agent cannot start; its cause is what the agent's code raised, if it did."""


def make_importable(load: Load) -> None:
    """After the standard library and the runtime's own modules come the package's, then its environment's.

    So a package's `json.py` or `par_harness.py` replaces nothing, and its `helpers.py` wins over a dependency's.
    """
    keep_bytecode_of([load.root, *load.site], load.bytecode)
    for folder in ("", "src", os.path.join("src", "a2a")):
        path = os.path.join(load.root, folder) if folder else load.root
        if os.path.isdir(path):
            sys.path.append(path)
    if load.site:
        from site import addsitedir

        known = set(sys.path)
        for folder in load.site:
            addsitedir(folder, known)  # not just appended: `.pth` files count


def module_of(name: str, entry_module: str | None = None) -> str:
    """The module in `module:attribute`; in a bare `attribute`, the entrypoint's."""
    return _split(name, entry_module)[0]


def attribute_of(name: str) -> str:
    return _split(name, "")[1]


def resolve(name: str, what: str, entry_module: str | None = None) -> Any:
    """The object that `module:attribute` or `module.attribute` names."""
    module_name, path = _split(name, entry_module)
    found = import_module(module_name)
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            origin = getattr(sys.modules[module_name], "__file__", None) or "it has no file"
            raise LoadFailure(f"{what} `{name}`: {module_name} has no `{attribute}` ({origin})") from error
    return found


def import_module(name: str) -> Any:
    try:
        __import__(name)
        return sys.modules[name]
    except BaseException as error:
        detail = detail_of(error)
        if not isinstance(error, ImportError) and not detail.startswith(type(error).__name__):
            detail = f"{type(error).__name__}: {detail}"
        requirement = _REQUIREMENTS.get(getattr(error, "name", None) or "")
        if isinstance(error, ModuleNotFoundError) and requirement is not None:
            detail = f"{detail}; add {requirement} to the agent's requirements"
        raise LoadFailure(f"cannot import `{name}`: {detail}") from error


def _split(name: str, entry_module: str | None) -> tuple[str, str]:
    if ":" in name:
        module, _, attribute = name.partition(":")
    elif "." in name:
        module, _, attribute = name.rpartition(".")
    else:
        module, attribute = entry_module or "", name
    if not module or not attribute:
        raise LoadFailure(f"`{name}` is not of the form `module:attribute`")
    return module, attribute
