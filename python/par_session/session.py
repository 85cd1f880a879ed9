"""One session: its namespace, and the runs in it, one after the other in the main thread.

```text
inputs ──refused──▶ failure "input"
  │                                         armed: SIGINT ends it
  ├──▶ compile ──▶ run ──▶ figures ──▶ pack variables ──▶ commit ──▶ result
  │       └─────────┴─────────┴──────────────┴──▶ roll back ──▶ failure
```
"""

from __future__ import annotations

import builtins
import sys
from os import _exit, getpid

from par_session import figures
from par_session.execution import Loop, Program
from par_session.failures import INPUT, Failure, failure_of, print_uncaught
from par_session.inputs import InputRefused, Inputs
from par_session.msgpack import encode
from par_session.sources import Sources
from par_session.usage import Memory, Meter
from par_session.variables import Returned, Variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from par_session.interrupts import Interrupts
    from par_session.progress import Progress
    from par_session.streams import Streams

LAST = "_"
_RECURSION_LIMIT, _SWITCH_INTERVAL = sys.getrecursionlimit(), sys.getswitchinterval()


class Session:
    def __init__(
        self, folder: str, most_bytes: int, streams: Streams, interrupts: Interrupts, progress: Progress
    ) -> None:
        self._folder = folder
        self._streams = streams
        self._interrupts = interrupts
        self._progress = progress
        self._process = getpid()
        self._main = type(sys)("__main__")
        self._namespace: dict[str, Any] = vars(self._main)
        self._variables = Variables(self._namespace, most_bytes)
        self._sources = Sources()
        self._loop = Loop()
        self._memory = Memory()
        self._compiling = False
        self._set_up()

    def answer(self, id: int, body: bytes) -> bytes:
        """Runs a call; the body of its result."""
        self._set_up()
        meter = Meter(self._memory)
        try:
            inputs = Inputs(body)
            self._restore(inputs)
            outcome = self._run(id, inputs, meter)
        except InputRefused as error:
            outcome = result_of(Failure(INPUT, str(error)), [], meter.read())
        self._streams.flush()
        return outcome

    def _set_up(self) -> None:
        """What the code of earlier runs may have changed, and should not have."""
        self._streams.set_up()
        self._interrupts.install()
        _reset_interpreter()
        namespace = self._namespace
        namespace["__name__"] = "__main__"
        namespace["__builtins__"] = builtins
        sys.modules["__main__"] = self._main
        builtins.progress = self._progress.progress  # type: ignore[attr-defined]

    def _restore(self, inputs: Inputs) -> None:
        """The state of an earlier process is there before the run, so it is also there if the run fails."""
        if inputs.restore:
            self._namespace.update(inputs.restored())
            self._variables.commit(self._variables.returned({}))

    def _run(self, id: int, inputs: Inputs, meter: Meter) -> bytes:
        before = self._namespace.copy()
        brought = inputs.variables()
        brought.update(inputs.write_files(self._folder))
        self._namespace.update(brought)
        self._progress.open(id)
        try:
            try:
                self._interrupts.arm()
                returned, used = self._returned(inputs.code, meter)
            finally:
                self._interrupts.disarm()
        except BaseException as error:
            # Again: a late interrupt may have come between the code and the line above.
            self._interrupts.disarm()
            self._progress.close()
            return self._failed(error, before, meter)
        self._progress.close()
        self._variables.commit(returned)
        return result_of(returned, [], used)

    def _returned(self, code: str, meter: Meter) -> tuple[Returned, tuple[float, float, int]]:
        self._compiling = True
        program = Program(code, self._sources.add(code))
        self._compiling = False
        value = self._value(program)
        extras: dict[str, Any] = {}
        if value is not None:
            extras[LAST] = self._namespace[LAST] = value
        extras.update(figures.taken())
        used = meter.read()
        return self._variables.returned(extras), used

    def _value(self, program: Program) -> Any:
        try:
            if program.is_async():
                return self._loop.run(program.run_async(self._namespace))
            return program.run(self._namespace)
        except SystemExit as exit:
            if exit.code is not None and exit.code != 0:
                raise
            return None
        finally:
            if getpid() != self._process:
                self._leave(sys.exc_info()[1])
            # The code may have made it too narrow for us as well.
            _reset_interpreter()

    def _failed(self, error: BaseException, before: dict[str, Any], meter: Meter) -> bytes:
        used = meter.read()
        failure = failure_of(error, self._compiling, self._sources)
        ran, self._compiling = not self._compiling, False
        figures.drop()
        self._variables.roll_back(before)
        return result_of(failure, self._variables.changed() if ran else [], used)

    def _leave(self, error: BaseException | None) -> NoReturn:
        """A forked child that has returned from the code. It ends as a program would; the answer is its parent's."""
        code = 0
        try:
            if isinstance(error, SystemExit):
                code = error.code & 0xFF if isinstance(error.code, int) else 1
            elif error is not None:
                code = 1
                print_uncaught(error, self._sources)
        finally:
            self._streams.flush()
            _exit(code)


def result_of(outcome: Returned | Failure, changed: list[str], used: tuple[float, float, int]) -> bytes:
    wall, cpu, memory = used
    ok = isinstance(outcome, Returned)
    return encode(
        {
            "ok": ok,
            "variables": outcome.variables if ok else {},
            "extras": outcome.extras if ok else {},
            "opaque": outcome.opaque if ok else [],
            "hidden": outcome.hidden if ok else [],
            "error": "" if ok else outcome.line,
            "kind": "" if ok else outcome.kind,
            "traceback": "" if ok else outcome.traceback,
            "changed": changed,
            "wall": wall,
            "cpu": cpu,
            "memory": memory,
        }
    )


def _reset_interpreter() -> None:
    sys.settrace(None)
    sys.setprofile(None)
    sys.setrecursionlimit(_RECURSION_LIMIT)
    sys.setswitchinterval(_SWITCH_INTERVAL)
