"""What a run costs."""

from __future__ import annotations

from os import O_CLOEXEC, O_RDONLY, close, sysconf
from os import open as open_fd
from os import read as read_fd
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import perf_counter


_PAGE = sysconf("SC_PAGE_SIZE")


class Meter:
    """From its making to `read`."""

    def __init__(self) -> None:
        own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        self._cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        self._peak = own.ru_maxrss
        self._resident = _resident()
        self._begin = perf_counter()

    def read(self) -> tuple[float, float, int]:
        """Seconds; seconds of all processors, of children that were waited for too; bytes of memory."""
        wall = perf_counter() - self._begin
        own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime - self._cpu
        # The peak is of the whole process: it tells of this run only if it grew.
        peak = own.ru_maxrss << 10 if own.ru_maxrss > self._peak else max(self._resident, _resident())
        return wall, cpu, peak


def _resident() -> int:
    """Bytes in memory now; 0 where the kernel does not say."""
    try:
        fd = open_fd("/proc/self/statm", O_RDONLY | O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(read_fd(fd, 128).split()[1]) * _PAGE
    finally:
        close(fd)
