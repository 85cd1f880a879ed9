"""Calls from this agent to others: they leave through the channel, so the agent needs no network."""

from __future__ import annotations

import os
from _thread import allocate_lock
from itertools import count

from par_harness.current import current_call
from par_harness.frames import CANCEL, ERROR, OUTBOUND, OUTBOUND_BIT, frame, status_and_body, with_head
from par_harness.values import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from par_harness.channel import Channel
    from par_harness.program_relay import Relay

    # HTTP status and body; a status of 0 means that no answer came, and the body says why.
    Answer = tuple[int, bytes]

LARGEST_REQUEST = 64 << 20


class Outbound:
    """The calls that wait for an answer, by id. Answers arrive on the reading thread."""

    def __init__(self, channel: Channel, about_to_block: Callable[[], None]) -> None:
        self._channel = channel
        self._about_to_block = about_to_block
        self._serials = count(1)
        self._waiting: dict[int, tuple[int, Callable[[Answer], None]]] = {}

    def request(self, agent: str, path: str, body: bytes, timeout_seconds: float | None) -> Answer:
        """Waits on the calling thread; another one reads meanwhile."""
        arrived, answers = allocate_lock(), []

        def take(answer: Answer) -> None:
            answers.append(answer)
            arrived.release()

        arrived.acquire()
        id = self._begin(agent, path, body, timeout_seconds, take)
        try:
            self._about_to_block()
            arrived.acquire()
        finally:
            self._abandon(id)
        return answers[0]

    async def request_async(self, agent: str, path: str, body: bytes, timeout_seconds: float | None) -> Answer:
        """Waits on whichever loop runs here: ours, or one that the agent runs in a thread."""
        from asyncio import get_running_loop

        loop = get_running_loop()
        arrived = loop.create_future()

        def settle(answer: Answer) -> None:
            if not arrived.done():
                arrived.set_result(answer)

        def take(answer: Answer) -> None:
            try:
                loop.call_soon_threadsafe(settle, answer)
            except RuntimeError:
                pass  # the agent has closed its loop: nobody waits any more

        id = self._begin(agent, path, body, timeout_seconds, take)
        try:
            answer: Answer = await arrived
            return answer
        finally:
            self._abandon(id)

    def on_answer(self, id: int, kind: int, body: bytes) -> None:
        waiting = self._waiting.pop(id, None)
        if waiting is not None:
            waiting[1](_failed(body) if kind == ERROR else status_and_body(body))

    def cancel_for(self, parent: int) -> None:
        """The caller of `parent` has left, so nobody wants what it has asked others for."""
        for id, (asked_by, take) in list(self._waiting.items()):
            if asked_by == parent and self._abandon(id):
                take((0, b"the call was cancelled"))

    def _begin(
        self, agent: str, path: str, body: bytes, timeout_seconds: float | None, take: Callable[[Answer], None]
    ) -> int:
        if len(body) > LARGEST_REQUEST:
            raise ValueError(f"a call to another agent takes at most {LARGEST_REQUEST >> 20} MiB")
        id = next(self._serials) % OUTBOUND_BIT | OUTBOUND_BIT
        parent = current_call.get()
        head = {"agent": agent, "path": path, "parent": parent, "timeout_seconds": timeout_seconds}
        self._waiting[id] = (parent, take)
        self._channel.send(frame(id, OUTBOUND, with_head(encode(head), body)))
        return id

    def _abandon(self, id: int) -> bool:
        """Tells the worker, unless the answer is here already."""
        if self._waiting.pop(id, None) is None:
            return False
        self._channel.send_frame(id, CANCEL)
        return True


def _failed(body: bytes) -> Answer:
    return 0, decode(body.decode())["detail"].encode()


# Who carries the calls of `pixell_agent_runtime`: set once the agent serves, exchanged in a forked program.
carrier: Outbound | Relay | None = None


def _forget_carrier() -> None:
    global carrier
    carrier = None


# A child that the agent forks on its own has no channel.
os.register_at_fork(after_in_child=_forget_carrier)
