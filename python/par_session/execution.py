"""Code becomes an effect and, if it ends with an expression, a value."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from types import CodeType
    from typing import Any, Coroutine

# As in `ast` and `inspect`, which are heavy imports.
_ONLY_TREE, _TOP_LEVEL_AWAIT = 0x400, 0x2000
_COROUTINE = 0x80
# Seconds that awaiting code has to clean up after an interrupt.
PATIENCE = 1.0


class Program:
    """Compiled code: its statements, and the expression after them."""

    def __init__(self, text: str, filename: str) -> None:
        import _ast  # the C half, in memory after the first program

        tree: Any = compile(text, filename, "exec", _ONLY_TREE | _TOP_LEVEL_AWAIT, True)
        last = tree.body.pop() if tree.body and type(tree.body[-1]) is _ast.Expr else None
        self.statements = _compiled(tree, filename, "exec") if tree.body else None
        self.last = _compiled(_ast.Expression(last.value), filename, "eval") if last is not None else None

    def is_async(self) -> bool:
        return any(code is not None and code.co_flags & _COROUTINE for code in (self.statements, self.last))

    def run(self, namespace: dict[str, Any]) -> Any:
        """The value of the last expression."""
        if self.statements is not None:
            exec(self.statements, namespace)
        return eval(self.last, namespace) if self.last is not None else None

    async def run_async(self, namespace: dict[str, Any]) -> Any:
        value = None
        for code in (self.statements, self.last):
            if code is not None:
                value = eval(code, namespace)
                if code.co_flags & _COROUTINE:
                    value = await value
        return value if self.last is not None else None


def _compiled(tree: Any, filename: str, mode: str) -> CodeType:
    code: CodeType = compile(tree, filename, mode, _TOP_LEVEL_AWAIT, True)
    return code


class Loop:
    """The event loop of all runs that await something, made for the first."""

    def __init__(self) -> None:
        self._loop: AbstractEventLoop | None = None

    def run(self, awaited: Coroutine[Any, Any, Any]) -> Any:
        try:
            import asyncio

            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
            loop = self._loop
            asyncio.set_event_loop(loop)
            task = loop.create_task(awaited)
        except BaseException:
            awaited.close()
            raise
        try:
            return loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                # Interrupted from outside: the code is still waiting for something, and may want to clean up.
                task.cancel()
                loop.run_until_complete(asyncio.wait([task], timeout=PATIENCE))
            if not task.done():
                # It does not end, or the interrupt came while the loop had the task in its hands, and dropped it.
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                self._loop = None
            elif not task.cancelled():
                task.exception()  # or the loop would complain that nobody asked
            raise
