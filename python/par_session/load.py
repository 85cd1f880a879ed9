"""What the worker wants loaded, read without the `json` package, which would be a third of the start-up time."""

from __future__ import annotations

from os import path

from _json import make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Load:
    """The body of `load`. A root is a package whose modules the session may import; site are those it depends on."""

    def __init__(self, text: str) -> None:
        fields, _end = _scan(text.strip(), 0)
        self.root: str | None = fields["root"]
        self.site: list[str] = fields["site"]
        self.folder: str = fields["folder"]
        self.bytecode: str = fields["bytecode"]
        self.result_bytes: int = fields["result_bytes"]


def make_importable(load: Load) -> None:
    """As for an agent, where there is anything to import."""
    if load.root is not None:
        from par_harness.loading import make_importable as make_package_importable

        make_package_importable(load)  # type: ignore[arg-type]
    elif load.site:
        from site import addsitedir

        from par_harness.bytecode import keep_bytecode_of

        keep_bytecode_of(load.site, load.bytecode)
        for folder in load.site:
            addsitedir(folder)


class _Plain:
    """How the C scanner of `json` makes values."""

    strict = True
    object_hook = object_pairs_hook = parse_constant = None
    parse_float, parse_int = float, int
    memo: dict[str, Any] = {}


_scan = make_scanner(_Plain)
