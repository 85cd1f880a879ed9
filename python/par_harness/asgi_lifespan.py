"""Starting and ending the agent's application, if it takes part in that.

    asked ── startup.complete ── serving ── lifespan.shutdown ── shutdown.complete
      ├───── startup.failed: the agent cannot be loaded
      └───── raises, or returns: it does not know lifespan, which is fine
"""

from __future__ import annotations

from par_harness.failures import log, logged_traceback
from par_harness.loading import LoadFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from par_harness.event_loop import EventLoop


class Lifespan:
    """`start_up` and `shut_down` are called by other threads than the loop's, and wait."""

    def __init__(self, application: Any, loop: EventLoop) -> None:
        self._application = application
        self._loop = loop
        # Given to every request; None as long as the application does not take part.
        self.state: dict[str, Any] | None = None
        self._events: asyncio.Queue[dict[str, str]] | None = None
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._task: asyncio.Task[None] | None = None

    def start_up(self) -> None:
        answer = self._wait_for(self._start_up())
        if answer["type"] == "lifespan.startup.failed":
            message = (answer.get("message") or "").strip()
            log(f"{message}\n")
            last_line = message.rpartition("\n")[2] or "it gave no reason"
            raise LoadFailure(f"the ASGI application failed to start: {last_line}")

    def shut_down(self) -> None:
        if self.state is not None:
            answer = self._wait_for(self._shut_down())
            if answer["type"] == "lifespan.shutdown.failed":
                log(f"the ASGI application failed to shut down: {answer.get('message', '')}\n")

    def _wait_for(self, work: Any) -> dict[str, Any]:
        from asyncio import run_coroutine_threadsafe

        answer: dict[str, Any] = run_coroutine_threadsafe(work, self._loop.start()).result()
        return answer

    async def _start_up(self) -> dict[str, Any]:
        from asyncio import Queue

        self._events = Queue()
        state: dict[str, Any] = {}
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        self._task = self._loop.start().create_task(self._run(scope))
        answer = await self._ask("lifespan.startup")
        if answer["type"] == "lifespan.startup.complete":
            self.state = state
        return answer

    async def _shut_down(self) -> dict[str, Any]:
        return await self._ask("lifespan.shutdown")

    async def _ask(self, event: str) -> dict[str, Any]:
        assert self._events is not None, "startup comes first"
        self._answer = self._loop.start().create_future()
        if self._task is None or self._task.done():
            return {"type": "unsupported"}
        self._events.put_nowait({"type": event})
        return await self._answer

    async def _run(self, scope: dict[str, Any]) -> None:
        assert self._events is not None, "startup comes first"
        try:
            await self._application(scope, self._events.get, self._send)
        except BaseException as error:
            if self.state is not None:
                logged_traceback(error)
        self._settle({"type": "unsupported"})

    async def _send(self, message: dict[str, Any]) -> None:
        self._settle(message)

    def _settle(self, answer: dict[str, Any]) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)
