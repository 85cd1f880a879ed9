"""The one asyncio loop, on a thread of its own, started when something first has to be awaited."""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from collections import deque

from par_harness.current import current_call
from par_harness.failures import cancelled, failure_of
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

    def __init__(self, channel: Channel, streams: Streams) -> None:
        self._channel = channel
        self._streams = streams
        self._starting = allocate_lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._posted: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._woken = False
        self._answers: list[bytes] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                import asyncio

                self._loop = asyncio.new_event_loop()
                start_new_thread(self._run, (self._loop,))
            return self._loop

    def in_progress(self) -> int:
        return len(self._tasks) + len(self._posted)

    # From any thread

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        self._posted.append((function, arguments))
        if not self._woken:
            self._woken = True
            (self._loop or self.start()).call_soon_threadsafe(self._take_posted)

    def answer(self, id: int, value: Any) -> None:
        """Awaits what a handler returned, or sends what it yields, and answers the call."""
        self.post(self._begin, id, value)

    def cancel(self, id: int) -> None:
        if self._loop is not None:
            self.post(self._cancel, id)

    # On the loop

    def begin_task(self, id: int, work: Any) -> asyncio.Task[None]:
        """Runs a coroutine on behalf of a call."""
        assert self._loop is not None, "what runs on the loop was posted to it"
        current_call.set(id)  # the task copies the context as it is now
        task = self._loop.create_task(work)
        self._tasks[id] = task
        task.add_done_callback(lambda _: self._tasks.pop(id, None))
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
            function(*arguments)

    def _begin(self, id: int, value: Any) -> None:
        if hasattr(value, "__anext__"):
            stream = LoopStream(self)
            self._streams.open(id, stream)
            self.begin_task(id, self._answer_stream(id, value, stream))
        else:
            self.begin_task(id, self._answer_value(id, value))

    def _cancel(self, id: int) -> None:
        task = self._tasks.get(id)
        if task is not None:
            task.cancel()

    async def _answer_value(self, id: int, value: Any) -> None:
        self.send_soon(await self._ended(id, self._awaited(id, value)))

    async def _answer_stream(self, id: int, items: AsyncIterator[Any], stream: LoopStream) -> None:
        last = await self._ended(id, self._streamed(id, items, stream))
        self._streams.close(id)
        self.send_soon(last)

    async def _ended(self, id: int, work: Any) -> bytes:
        """The frame that ends the call, whatever becomes of it."""
        from asyncio import CancelledError

        try:
            return await work
        except CancelledError:
            return cancelled(id)
        except BaseException as error:
            return failure_of(id, error)

    async def _awaited(self, id: int, value: Any) -> bytes:
        return frame(id, RESULT, encode(await value))

    async def _streamed(self, id: int, items: AsyncIterator[Any], stream: LoopStream) -> bytes:
        try:
            async for item in items:
                for part in chunks_of(id, encode(item)):
                    await stream.wait_for_credit(part)
                    self._channel.send(part)
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()
        return frame(id, RESULT)

    def _send_answers(self) -> None:
        answers, self._answers = self._answers, []
        self._channel.send(b"".join(answers))


class LoopStream:
    """The chunks that a task sends."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._credit = Credit()
        self._changed = Change(loop)

    async def wait_for_credit(self, chunk_frame: bytes) -> None:
        while not self._credit.covers(chunk_frame):
            await self._changed.wait()
        self._credit.take(chunk_frame)

    def on_credit(self, amount: int) -> None:
        self._credit.grant(amount)
        self._loop.post(self._changed.announce)

    def on_cancel(self) -> bool:
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
