"""Actions: what `AgentService.Invoke` calls by name. They take strings, and their answer is one.

An action is a custom handler of the agent's A2A service, or one of its exports. In the table of handlers its name has
`ACTION` before it, so that the two kinds of names cannot meet.
"""

from __future__ import annotations

from par_harness.adapters import ACTION, is_async

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from par_harness.adapters import Agent, Handler


def add_actions(agent: Agent, custom: dict[str, Handler]) -> None:
    """The custom handlers, then the exports of other names."""
    named = {**custom, **{name: agent.handlers[name] for name in agent.export_names() if name not in custom}}
    agent.handlers.update({ACTION + name: _action(handler) for name, handler in named.items()})


def _action(handler: Handler) -> Handler:
    """The handler, with an answer in words. What is surely awaited stays recognizable as such."""
    if is_async(handler):

        async def act_later(parameters: Any) -> str:
            return await _awaited_words(handler(parameters))

        return act_later

    def act(parameters: Any) -> Any:
        value = handler(parameters)
        if hasattr(value, "__await__") or hasattr(value, "__anext__"):
            return _awaited_words(value)
        return _words(value)

    return act


async def _awaited_words(value: Any) -> str:
    if not hasattr(value, "__anext__"):
        return _words(await value)
    try:
        return _words([item async for item in value])
    finally:
        close = getattr(value, "aclose", None)
        if close is not None:
            await close()


def _words(value: Any) -> str:
    if hasattr(value, "__next__"):
        value = list(value)
    return str(value)
