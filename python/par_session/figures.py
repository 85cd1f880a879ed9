"""The figures that a run has drawn with matplotlib, as pictures."""

from __future__ import annotations

import sys
from os import environ

from par_session.interrupts import RunInterrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def draw_without_screen() -> None:
    environ.setdefault("MPLBACKEND", "Agg")


def taken() -> dict[str, bytes]:
    """PNGs of the open figures, which are closed."""
    pyplot = _pyplot()
    if pyplot is None:
        return {}
    pictures: dict[str, bytes] = {}
    for number in pyplot.get_fignums():
        name = f"figure_{len(pictures) + 1}"
        figure = pyplot.figure(number)
        try:
            pictures[name] = _png(figure)
        except (RunInterrupted, MemoryError):
            raise
        except Exception as error:
            _say(f"{name} cannot be drawn: {type(error).__name__}: {error}")
        finally:
            pyplot.close(figure)
    return pictures


def drop() -> None:
    """A run that failed leaves none to the next."""
    pyplot = _pyplot()
    try:
        if pyplot is not None:
            pyplot.close("all")
    except Exception:
        pass  # not matplotlib's


def _png(figure: Any) -> bytes:
    from _io import BytesIO

    picture = BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr)
    except Exception:
        pass  # the code has closed its standard error


def _pyplot() -> Any:
    """None unless the code has imported it whole."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    return pyplot if getattr(pyplot, "get_fignums", None) and getattr(pyplot, "close", None) else None
