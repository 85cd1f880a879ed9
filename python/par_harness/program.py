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
    """One running program."""

    def __init__(self, main: Callable[..., Any], request: bytes) -> None:
        # Files in memory, not pipes: other forks may hold copies of our descriptors, so end-of-file proves nothing.
        self._verdict = os.memfd_create("verdict")
        request_fd = os.memfd_create("request")
        self._output, output_end = os.pipe()
        self._relay = Relay()
        try:
            os.write(request_fd, request)
            os.lseek(request_fd, 0, os.SEEK_SET)
            self._pid = os.fork()
            if self._pid == 0:
                become_program(main, request_fd, output_end, self._verdict, self._relay)
            self._exited = os.pidfd_open(self._pid)
        finally:
            os.close(request_fd)
            os.close(output_end)
        self._ending = allocate_lock()
        self._reaped = False
        self._cancelled = False
        self.exit_code = 0

    def wait(self) -> bytes:
        """What it has printed when it exits."""
        try:
            output = self._read_until_exit()
        finally:
            self._end()
            failure = os.pread(self._verdict, 1 << 16, 0).decode(errors="replace")
            for fd in (self._output, self._exited, self._verdict):
                os.close(fd)
            self._relay.close()
        if self._cancelled:
            raise CallCancelled
        if failure:
            raise _Failed(failure)
        return output

    def on_cancel(self) -> bool:
        self._cancelled = True
        with self._ending:
            self._kill_group()
        return True

    def on_chunk(self, flags: int, body: bytes) -> None:
        """A call has no body besides its own."""

    def on_credit(self, amount: int) -> None:
        """The answer is one result."""

    def _read_until_exit(self) -> bytes:
        os.set_blocking(self._output, False)
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        poll.register(self._exited, select.POLLIN)
        poll.register(self._relay, select.POLLIN)
        output = bytearray()
        while True:
            ready = dict(poll.poll())
            while part := self._read_available():
                output += part
                if len(output) > MAX_OUTPUT:
                    raise _Failed(f"main() printed more than {MAX_OUTPUT >> 20} MiB")
            if self._exited in ready:
                return bytes(output)
            if self._relay.fileno() in ready:
                self._relay.answer_one()
            if ready.get(self._output, 0) & ~select.POLLIN:
                poll.unregister(self._output)  # it has closed its standard output, and runs on

    def _read_available(self) -> bytes:
        try:
            return os.read(self._output, 1 << 20)
        except BlockingIOError:
            return b""

    def _end(self) -> None:
        """The group is killed before its leader is reaped: only until then is the number surely its own."""
        with self._ending:
            self._kill_group()
            _, status = os.waitpid(self._pid, 0)
            self._reaped = True
        self.exit_code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)

    def _kill_group(self) -> None:
        if self._reaped:
            return
        try:
            # The child may not have made its group yet.
            os.setpgid(self._pid, self._pid)
        except OSError:
            pass  # it has made it, or it has ended
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nobody is left


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
