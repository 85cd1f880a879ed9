"""The one asyncio loop, on a thread of its own, started when something first has to be awaited."""

from __future__ import annotations

import sys
from _thread import allocate_lock, start_new_thread
from collections import deque

from par_harness.answers import Awaited, result
from par_harness.current import current_call
from par_harness.failures import CallCancelled, cancelled, failure_of, logged_traceback
from par_harness.frames import RESULT, frame
from par_harness.streams import Credit, chunks_of
from par_harness.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any, AsyncIterator, Callable

    from par_harness.channel import Channel
    from par_harness.streams import Streams


class EventLoop:
    """Other threads post functions; those that are posted together wake the loop once."""

    def __init__(self, channel: Channel, streams: Streams, ended: Callable[[], None]) -> None:
        self._channel = channel
        self._streams = streams
        self._ended = ended
        self._starting = allocate_lock()
        self._started = False
        self._adopted = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._posted: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._woken = False
        self._answers: list[bytes] = []
        self._unended: set[int] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def adopt(self) -> None:
        """Takes the loop that the main thread had while the agent was imported.

        Up to Python 3.9, a lock or an event that was made then belongs to that loop for good.
        """
        with self._starting:
            self._adopted = True
            if sys.version_info < (3, 10) and "asyncio" in sys.modules:
                from asyncio import new_event_loop, set_event_loop

                if self._loop is None:
                    self._loop = _loop_of_main_thread()
                set_event_loop(new_event_loop())

    def start(self) -> asyncio.AbstractEventLoop:
        """The loop, running. The agent's own code may need it while it is imported."""
        with self._starting:
            if self._loop is None:
                self._loop = self._made()
            if not self._started:
                self._started = True
                start_new_thread(self._run, (self._loop,))
            return self._loop

    def _made(self) -> asyncio.AbstractEventLoop:
        from asyncio import new_event_loop

        if sys.version_info < (3, 10) and not self._adopted:
            from threading import current_thread, main_thread

            if current_thread() is main_thread():
                return _loop_of_main_thread()
        return new_event_loop()

    def is_started(self) -> bool:
        return self._started

    def in_progress(self) -> int:
        return len(self._unended) + len(self._answers)

    # From any thread

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        self._posted.append((function, arguments))
        if not self._woken:
            self._woken = True
            loop = self._loop if self._started and self._loop is not None else self.start()
            loop.call_soon_threadsafe(self._take_posted)

    def answer(self, id: int, value: Any) -> None:
        """Awaits what a handler returned, or sends what it yields, and answers the call."""
        self.post_begin(id, self._begin, id, value)

    def post_begin(self, id: int, function: Callable[..., None], *arguments: Any) -> None:
        """Posts what will begin the task of a call, which counts as in progress from now on."""
        self._unended.add(id)
        self.post(function, *arguments)

    def cancel(self, id: int) -> None:
        if self._started:
            self.post(self._cancel, id)

    def cancel_or_confirm(self, id: int) -> None:
        """Ends the task of a call; one that is over, or never was, is answered as cancelled."""
        if self._started:
            self.post(self._cancel_or_confirm, id)
        else:
            self._channel.send(cancelled(id))

    # On the loop

    def begin_task(self, id: int, work: Any) -> asyncio.Task[None]:
        """Runs a coroutine on behalf of a call."""
        assert self._loop is not None, "what runs on the loop was posted to it"
        current_call.set(id)  # the task copies the context as it is now
        task = self._loop.create_task(work)
        self._tasks[id] = task
        task.add_done_callback(lambda _: self._end_task(id))
        return task

    def send_soon(self, frames: bytes) -> None:
        """Sends at the end of this turn of the loop, together with what else ends in it."""
        assert self._loop is not None, "only the loop's own thread calls this"
        if not self._answers:
            self._loop.call_soon(self._send_answers)
        self._answers.append(frames)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        asyncio.set_event_loop(loop)
        loop.run_forever()

    def _take_posted(self) -> None:
        self._woken = False
        while self._posted:
            function, arguments = self._posted.popleft()
            try:
                function(*arguments)
            except Exception as error:
                logged_traceback(error)  # the others still have to run

    def _begin(self, id: int, value: Any) -> None:
        if hasattr(value, "__anext__"):
            stream = LoopStream(self)
            self._streams.open(id, stream)
            task = self.begin_task(id, self._answer_stream(id, value, stream))
        else:
            task = self.begin_task(id, self._answer_value(id, value))
        task.add_done_callback(lambda ended: self._never_began(id, value) if ended.cancelled() else None)

    def _never_began(self, id: int, value: Any) -> None:
        """Cancelled before its first step, a task runs none of its code, not even what catches that."""
        self._streams.close(id)
        Awaited(value).discard()
        self.send_soon(cancelled(id))

    def _end_task(self, id: int) -> None:
        self._tasks.pop(id, None)
        self._unended.discard(id)
        self._ended()

    def _cancel(self, id: int) -> None:
        task = self._tasks.get(id)
        if task is not None:
            task.cancel()

    def _cancel_or_confirm(self, id: int) -> None:
        if id in self._tasks:
            self._cancel(id)
        else:
            self.send_soon(cancelled(id))

    async def _answer_value(self, id: int, value: Any) -> None:
        try:
            answer = result(id, await value)
        except BaseException as error:
            answer = self._failure(id, error)
        self.send_soon(answer)

    async def _answer_stream(self, id: int, items: AsyncIterator[Any], stream: LoopStream) -> None:
        try:
            await self._send_items(id, items, stream)
            last = frame(id, RESULT)
        except BaseException as error:
            last = self._failure(id, error)
        self._streams.close(id)
        self.send_soon(last)

    async def _send_items(self, id: int, items: AsyncIterator[Any], stream: LoopStream) -> None:
        try:
            async for item in items:
                for part in chunks_of(id, encode(item)):
                    await stream.wait_for_credit(part)
                    self._channel.send(part)
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    def _failure(self, id: int, error: BaseException) -> bytes:
        from asyncio import CancelledError

        return cancelled(id) if isinstance(error, CancelledError) else failure_of(id, error)

    def _send_answers(self) -> None:
        self._channel.send(b"".join(self._answers))
        self._answers.clear()
        self._ended()


def _loop_of_main_thread() -> asyncio.AbstractEventLoop:
    from asyncio import _get_running_loop, get_event_loop, new_event_loop

    if _get_running_loop() is not None:
        return new_event_loop()  # that of an `asyncio.run` ends with it
    try:
        return get_event_loop()
    except RuntimeError:
        return new_event_loop()  # the agent called `asyncio.run`, which leaves none behind


class LoopStream:
    """The chunks that a task sends."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._credit = Credit()
        self._changed = Change(loop)
        self._cancelled = False

    async def wait_for_credit(self, chunk_frame: bytes) -> None:
        while not self._credit.covers(chunk_frame):
            if self._cancelled:
                raise CallCancelled  # its generator went on, and nobody grants anything any more
            await self._changed.wait()
        self._credit.take(chunk_frame)

    def on_credit(self, amount: int) -> None:
        self._credit.grant(amount)
        self._loop.post(self._changed.announce)

    def on_cancel(self) -> bool:
        self._cancelled = True
        return False  # its task is cancelled, by the id

    def on_chunk(self, flags: int, body: bytes) -> None:
        """A call has no body besides its own."""


class Change:
    """Lets coroutines wait until something has changed."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    def wait(self) -> asyncio.Future[None]:
        waiting = self._loop.start().create_future()
        self._waiting.append(waiting)
        return waiting

    def announce(self) -> None:
        announced, self._waiting = self._waiting, []
        for waiting in announced:
            if not waiting.done():
                waiting.set_result(None)
