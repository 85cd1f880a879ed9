"""The life of the process: load, ready, answer, stop."""

from __future__ import annotations

import os

from par_harness import failures, process
from par_harness.adapters import load_agent
from par_harness.calls import Calls
from par_harness.channel import Channel
from par_harness.event_loop import EventLoop
from par_harness.frames import CANCEL, CHUNK, CREDIT, LOAD, READY, STOP, credit_of
from par_harness.loading import Load, LoadFailure, make_importable
from par_harness.readers import Readers
from par_harness.stopping import Stopping
from par_harness.streams import Streams
from par_harness.values import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from par_harness.adapters import Agent


def run() -> None:
    channel = Channel(process.take_channel())
    process.settle()
    first = channel.next_frame()
    if first is None or first[0] != LOAD:
        failures.log("par_harness: the channel ended before it said what to load\n")
        os._exit(1)
    load = Load(decode(first[2].decode()))
    try:
        make_importable(load)
        agent = load_agent(load)
    except LoadFailure as error:
        _refuse(channel, error)
        return
    Runtime(channel, load, agent).run()


def _refuse(channel: Channel, error: LoadFailure) -> None:
    traceback = failures.logged_traceback(error.__cause__) if error.__cause__ is not None else None
    channel.send(failures.failure(0, failures.LOAD, str(error), traceback))
    process.flush_streams()
    os._exit(1)


class Runtime:
    """The parts of a running agent, and which frame is for which."""

    def __init__(self, channel: Channel, load: Load, agent: Agent) -> None:
        self._channel = channel
        self._agent = agent
        self._streams = Streams(channel)
        self._loop = EventLoop(channel, self._streams)
        self._calls = Calls(agent.handlers, self._streams, self._loop)
        self._readers = Readers(channel, self._calls.answer, self._control, self._ended, load.concurrency)
        self._stopping = Stopping(agent, self._readers, self._loop)

    def run(self) -> None:
        ready = {"adapter": self._agent.kind, "exports": self._agent.export_names(), "asgi": False}
        self._channel.send_frame(0, READY, encode(ready))
        self._readers.run()

    def _control(self, kind: int, id: int, body: bytes) -> None:
        if kind == CHUNK:
            stream = self._streams.get(id)
            if stream is not None:
                stream.on_chunk(body[0], body[1:])
        elif kind == CREDIT:
            stream = self._streams.get(id)
            if stream is not None:
                stream.on_credit(credit_of(body))
        elif kind == CANCEL:
            stream = self._streams.close(id)
            if stream is not None:
                stream.on_cancel()
            self._loop.cancel(id)
            self._readers.cancel(id)
        elif kind == STOP:
            self._stopping.begin()

    def _ended(self) -> None:
        self._stopping.begin_at_once()
