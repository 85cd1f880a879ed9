"""What a run costs."""

from __future__ import annotations

from os import O_CLOEXEC, O_RDONLY, close
from os import open as open_fd
from os import read as read_fd
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import perf_counter


class Memory:
    """Of this process, in bytes, as the kernel has it in `status`.

    Not `ru_maxrss`: that begins with the size of whoever started us, and so hides a peak that is smaller.
    """

    def __init__(self) -> None:
        self._peak, self._resident = _peak_and_resident()

    def of_run(self) -> int:
        """The peak is of the whole life: it tells of the run since the last time only if it grew."""
        peak_before, resident_before = self._peak, self._resident
        self._peak, self._resident = _peak_and_resident()
        return self._peak if self._peak > peak_before else max(resident_before, self._resident)


class Meter:
    """From its making to `read`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._cpu = _processor_time()
        self._begin = perf_counter()

    def read(self) -> tuple[float, float, int]:
        """Seconds; seconds of all processors, of children that were waited for too; bytes of memory."""
        wall = perf_counter() - self._begin
        return wall, _processor_time() - self._cpu, self._memory.of_run()


def _processor_time() -> float:
    own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _peak_and_resident() -> tuple[int, int]:
    """0 where the kernel does not say."""
    try:
        fd = open_fd("/proc/self/status", O_RDONLY | O_CLOEXEC)
    except OSError:
        return 0, 0
    try:
        status = read_fd(fd, 4096)
    finally:
        close(fd)
    return _kilobytes(status, b"\nVmHWM:"), _kilobytes(status, b"\nVmRSS:")


def _kilobytes(status: bytes, name: bytes) -> int:
    at = status.find(name)
    if at < 0:
        return 0
    return int(status[at + len(name) : status.index(b"k", at + len(name))]) << 10
