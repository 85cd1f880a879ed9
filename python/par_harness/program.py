"""Agents that are a program: `main()` reads one JSON object from standard input and prints one.

Each call runs in a forked copy of this process, where the module is imported already: calls cannot mix, and what a
call leaves behind ends with it. The copies live in a process group each, so that a cancelled call ends whole.
"""

from __future__ import annotations

import os
import select
import signal
from _thread import allocate_lock

from par_harness.current import current_call
from par_harness.failures import CallCancelled
from par_harness.program_child import become_program
from par_harness.program_relay import Relay
from par_harness.values import BadJson, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from par_harness.streams import Streams

MAX_OUTPUT = 64 << 20


class Programs:
    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        _silence_fork_warning()

    def run(self, main: Callable[..., Any], request: dict[str, Any]) -> Any:
        """What the program printed; what went wrong is an answer too."""
        id = current_call.get()
        run = _Run(main, encode(request))
        self._streams.open(id, run)
        try:
            output = run.wait()
        except _Failed as error:
            return {"status": "error", "message": str(error)}
        finally:
            self._streams.close(id)
        return _parsed(output, run)


class _Failed(Exception):
    """The program did not end as programs should."""


class _Run:
    """One running program. It may be cancelled at any moment, even before it has begun."""

    def __init__(self, main: Callable[..., Any], request: bytes) -> None:
        self._main = main
        self._request = request
        self._pid = 0
        self._cancelled = False
        # Guards the number of the process: it is ours to kill until it is reaped.
        self._living = allocate_lock()
        self.exit_code = 0

    def wait(self) -> bytes:
        """Runs the program; what it has printed when it exits."""
        # Files in memory, not pipes: other forks may hold copies of our descriptors, so end-of-file proves nothing.
        request, verdict = os.memfd_create("request"), os.memfd_create("verdict")
        output, output_end = os.pipe()
        relay = Relay()
        try:
            os.write(request, self._request)
            os.lseek(request, 0, os.SEEK_SET)
            self._fork(request, output_end, verdict, relay)
            printed = self._read_until_exit(output, relay)
        finally:
            self._end()
            failure = os.pread(verdict, 1 << 16, 0).decode(errors="replace")
            for fd in (request, verdict, output, output_end):
                os.close(fd)
            relay.close()
        if self._cancelled:
            raise CallCancelled
        if failure:
            raise _Failed(failure)
        return printed

    def on_cancel(self) -> bool:
        self._cancelled = True
        self._kill_group()
        return True

    def on_chunk(self, flags: int, body: bytes) -> None:
        """A call has no body besides its own."""

    def on_credit(self, amount: int) -> None:
        """The answer is one result."""

    def _fork(self, request: int, output: int, verdict: int, relay: Relay) -> None:
        pid = os.fork()
        if pid == 0:
            become_program(self._main, request, output, verdict, relay)
        with self._living:
            self._pid = pid
        if self._cancelled:
            self._kill_group()

    def _read_until_exit(self, output: int, relay: Relay) -> bytes:
        os.set_blocking(output, False)
        exited = os.pidfd_open(self._pid)
        try:
            poll = select.poll()
            for fd in (output, exited, relay.fileno()):
                poll.register(fd, select.POLLIN)
            printed = bytearray()
            while True:
                ready = dict(poll.poll())
                while part := _read_available(output):
                    printed += part
                    if len(printed) > MAX_OUTPUT:
                        raise _Failed(f"main() printed more than {MAX_OUTPUT >> 20} MiB")
                if exited in ready:
                    return bytes(printed)
                if relay.fileno() in ready:
                    relay.answer_one()
        finally:
            os.close(exited)

    def _end(self) -> None:
        """The group is killed before its leader is reaped: only until then is the number surely its own."""
        self._kill_group()
        with self._living:
            if self._pid:
                _, status = os.waitpid(self._pid, 0)
                self._pid = 0
                self.exit_code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)

    def _kill_group(self) -> None:
        with self._living:
            if not self._pid:
                return
            try:
                os.setpgid(self._pid, self._pid)  # the child may not have made its group yet
            except OSError:
                pass  # it has, or it has ended
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # nobody is left


def _read_available(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


def _parsed(output: bytes, run: _Run) -> Any:
    text = output.decode(errors="replace").strip()
    if not text:
        return {"status": "error", "message": f"main() printed nothing and ended with {_ending(run.exit_code)}"}
    try:
        return decode(text)
    except BadJson as error:
        return {"status": "error", "message": f"main() did not print JSON: {error}; it printed {text[:200]!r}"}


def _ending(code: int) -> str:
    return f"code {code}" if code >= 0 else f"signal {-code}"


def _silence_fork_warning() -> None:
    """Python 3.12 warns of every fork beside threads; our child touches nothing that another thread may hold."""
    from warnings import filterwarnings

    filterwarnings("ignore", category=DeprecationWarning, module="par_harness")
