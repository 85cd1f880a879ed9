"""How a forked program calls other agents: it asks its parent, which has the channel."""

from __future__ import annotations

from _socket import AF_UNIX, SHUT_RDWR, SOCK_STREAM, socket, socketpair
from _thread import allocate_lock

from par_harness import outbound
from par_harness.frames import HEADER, HEADER_SIZE, OUTBOUND, RESULT, frame, status_and_body, with_head
from par_harness.values import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from par_harness.outbound import Answer

GONE: Answer = (0, b"the runtime is gone")


class Relay:
    """Both ends; each process uses one. The forks of other calls hold copies, so nothing waits for an end-of-file."""

    def __init__(self) -> None:
        self._parent, self._child = socketpair(AF_UNIX, SOCK_STREAM)
        self._one_at_a_time = allocate_lock()

    # In the parent

    def fileno(self) -> int:
        return self._parent.fileno()

    def answer_one(self) -> None:
        """Makes the call that the program has asked for; the program waits, and so does its thread here."""
        body = _receive(self._parent)
        if body is None:
            return
        size = body[0] << 8 | body[1]
        head = decode(body[2 : 2 + size].decode())
        answer = GONE
        if outbound.carrier is not None:
            answer = outbound.carrier.request(head["agent"], head["path"], body[2 + size :], head["timeout_seconds"])
        try:
            self._parent.sendall(frame(0, RESULT, answer[0].to_bytes(2, "big") + answer[1]))
        except OSError:
            pass  # the program has ended meanwhile

    def close(self) -> None:
        for end in (self._parent, self._child):
            try:
                end.shutdown(SHUT_RDWR)
            except OSError:
                pass  # already shut by the other end
            end.close()

    # In the child

    def request(self, agent: str, path: str, body: bytes, timeout_seconds: float | None) -> Answer:
        head = {"agent": agent, "path": path, "timeout_seconds": timeout_seconds}
        with self._one_at_a_time:
            self._child.sendall(frame(0, OUTBOUND, with_head(encode(head), body)))
            answer = _receive(self._child)
        return GONE if answer is None else status_and_body(answer)

    async def request_async(self, agent: str, path: str, body: bytes, timeout_seconds: float | None) -> Answer:
        from asyncio import get_running_loop

        return await get_running_loop().run_in_executor(None, self.request, agent, path, body, timeout_seconds)


def _receive(end: socket) -> bytes | None:
    """The body of the next frame; None when the other process is gone."""
    header = _receive_exactly(end, HEADER_SIZE)
    return None if header is None else _receive_exactly(end, HEADER.unpack(header)[0])


def _receive_exactly(end: socket, size: int) -> bytes | None:
    parts = []
    while size > 0:
        try:
            part = end.recv(min(size, 1 << 20))
        except OSError:
            return None
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
