"""The code of the runs, so that tracebacks can show its lines."""

from __future__ import annotations

from sys import modules

FILENAME = "<session "
# Characters of all that is remembered; the oldest goes first.
MOST_REMEMBERED = 8 << 20


class Sources:
    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._size = 0
        self._runs = 0

    def add(self, text: str) -> str:
        """The file name under which this code is compiled."""
        self._runs += 1
        name = f"{FILENAME}{self._runs}>"
        self._texts[name] = text
        self._size += len(text)
        forgotten = []
        while self._size > MOST_REMEMBERED:
            forgotten.append(next(iter(self._texts)))
            self._size -= len(self._texts.pop(forgotten[-1]))
        if "linecache" in modules:
            self.show(forgotten)
        return name

    def show(self, forgotten: list[str] | tuple[()] = ()) -> None:
        """Makes the lines known to whoever prints tracebacks. Once that has been loaded, at the start of each run."""
        try:
            from linecache import cache

            for name in forgotten:
                cache.pop(name, None)
            for name in reversed(self._texts):
                if name in cache:
                    return  # and all before it
                text = self._texts[name]
                # Without a time of change, it is never looked for on the disk.
                cache[name] = (len(text), None, [line + "\n" for line in text.split("\n")], name)
        except Exception:
            pass  # the session's code made a module of its own of it; tracebacks lack their lines then
