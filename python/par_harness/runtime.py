"""The parts of a running agent, and which frame is for which."""

from __future__ import annotations

from par_harness import outbound
from par_harness.actions import add_actions
from par_harness.adapters import is_async, load_agent
from par_harness.calls import Calls
from par_harness.event_loop import EventLoop
from par_harness.frames import CANCEL, CHUNK, CREDIT, ERROR, HTTP, OUTBOUND_BIT, PING, PONG, READY, RESULT, STOP, credit_of
from par_harness.loading import make_importable
from par_harness.outbound import Outbound
from par_harness.readers import Readers
from par_harness.stopping import Stopping
from par_harness.streams import Streams
from par_harness.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from par_harness.adapters import Handler, RunProgram
    from par_harness.asgi import Surface
    from par_harness.channel import Channel
    from par_harness.loading import Load
    from par_harness.own_grpc import OwnGrpc


class Runtime:
    def __init__(self, channel: Channel, load: Load) -> None:
        """Loads the agent; `LoadFailure` says why it cannot be."""
        self._channel = channel
        self._stopping = Stopping()
        channel.on_gone = self._stopping.begin_at_once
        self._streams = Streams(channel)
        self._loop = EventLoop(channel, self._streams, self._stopping.something_ended)
        self._own_grpc = self._let_use_grpc(load)
        make_importable(load)
        self._agent = load_agent(load, self._programs)
        add_actions(self._agent, self._custom_handlers(load))
        self._surface = self._load_surface(load)
        self._loop.adopt()
        if any(map(is_async, self._agent.handlers.values())):
            self._loop.start()
        self._readers = Readers(
            channel,
            Calls(self._agent.handlers, self._streams).answer,
            self._control,
            load.concurrency,
            hand_over=self._loop.answer,
            slow_ended=self._stopping.something_ended,
            worker_gone=self._stopping.begin_at_once,
        )
        self._outbound = Outbound(channel, self._readers.about_to_block)
        self._stopping.prepare(self._in_progress, self._clean_ups())

    def run(self) -> None:
        if self._surface is not None:
            self._surface.start_up()
        if self._own_grpc is not None:
            self._own_grpc.wait_for_starts()
        ready = {
            "adapter": self._agent.kind,
            "exports": self._agent.export_names(),
            "actions": self._agent.action_names(),
            "asgi": self._surface is not None,
        }
        self._channel.send_frame(0, READY, encode(ready))
        outbound.carrier = self._outbound
        self._readers.run()

    def _let_use_grpc(self, load: Load) -> OwnGrpc | None:
        """Before the agent's code runs, which may serve and call as soon as it is imported."""
        if load.own_grpc_socket is None and load.grpc_door is None:
            return None
        from par_harness import own_grpc
        from par_harness.own_grpc import OwnGrpc

        own_grpc.settle_forks(load.entrypoint)
        own_grpc.door = load.grpc_door
        if load.own_grpc_socket is not None:
            own_grpc.own = OwnGrpc(load.own_grpc_socket, load.concurrency, self._channel, self._loop.start)
        return own_grpc.own

    def _custom_handlers(self, load: Load) -> dict[str, Handler]:
        if load.a2a_service is None:
            return {}
        from par_harness.a2a_service import custom_handlers

        return custom_handlers(load, self._loop, self._own_grpc)

    def _load_surface(self, load: Load) -> Surface | None:
        if load.rest_entry is None and load.asgi_app is None:
            return None
        from par_harness.asgi import Surface, load_application

        return Surface(load_application(load), self._channel, self._streams, self._loop)

    def _programs(self) -> RunProgram:
        from par_harness.program import Programs

        return Programs(self._streams).run

    def _in_progress(self) -> int:
        return self._readers.in_progress() + self._loop.in_progress()

    def _clean_ups(self) -> list[Callable[[], Any]]:
        own_grpc = [self._own_grpc.stop] if self._own_grpc is not None else []
        surface = [self._surface.shut_down] if self._surface is not None else []
        agent = [self._agent.cleanup] if self._agent.cleanup is not None else []
        return own_grpc + surface + agent

    def _control(self, kind: int, id: int, body: bytes) -> None:
        """Every frame that is not a call."""
        if kind == CHUNK:
            stream = self._streams.get(id)
            if stream is not None:
                stream.on_chunk(body[0], body[1:])
        elif kind == CREDIT:
            stream = self._streams.get(id)
            if stream is not None:
                stream.on_credit(credit_of(body))
        elif kind == HTTP and self._surface is not None:
            self._surface.on_http(id, body)
        elif kind in (RESULT, ERROR) and id & OUTBOUND_BIT:
            self._outbound.on_answer(id, kind, body)
        elif kind == CANCEL:
            self._cancel(id)
        elif kind == PING:
            self._answer_ping(body)
        elif kind == STOP:
            self._stopping.begin()

    def _answer_ping(self, body: bytes) -> None:
        """Where a loop runs, it has to have a turn first: one that is blocked hangs, a thread that is busy does not."""
        if self._loop.is_started():
            self._loop.post(self._channel.send_frame, 0, PONG, body)
        else:
            self._channel.send_frame(0, PONG, body)

    def _cancel(self, id: int) -> None:
        """Whoever has the call answers it once nothing of it runs; if nobody has it, the loop says so."""
        stream = self._streams.close(id)
        if stream is None:
            if not self._readers.cancel(id):
                self._loop.cancel_or_confirm(id)
        elif not stream.on_cancel() and not self._readers.cancel(id):
            self._loop.cancel(id)
        self._outbound.cancel_for(id)
