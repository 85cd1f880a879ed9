"""The factory `a2a.service`: custom handlers, a gRPC servicer, or both.

    an object with `.custom_handlers`   {"custom_handlers": {…}}   a servicer that grpcio-tools has generated
"""

from __future__ import annotations

import sys

from par_harness.failures import detail_of
from par_harness.loading import LoadFailure, module_of, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from par_harness.adapters import Handler
    from par_harness.event_loop import EventLoop
    from par_harness.loading import Load
    from par_harness.own_grpc import OwnGrpc


def custom_handlers(load: Load, loop: EventLoop, own: OwnGrpc | None) -> dict[str, Handler]:
    """Calls the factory; starts its service if it is one, and returns its handlers if it has some."""
    assert load.a2a_service is not None, "the caller has looked"
    what = f"A2A service `{load.a2a_service}`"
    factory = resolve(load.a2a_service, "A2A service", module_of(load.entrypoint) if load.entrypoint else None)
    if not callable(factory):
        raise LoadFailure(f"{what} is not callable ({type(factory).__name__})")
    service = _made(factory, what, loop)
    handlers = _checked(_handlers_of(service, what), what)
    add_functions = list(_add_functions(service))
    if handlers is None and not add_functions:
        raise LoadFailure(
            f"{what} returned {type(service).__name__}, which neither has `custom_handlers`"
            " nor is a servicer of a generated `*_pb2_grpc` module"
        )
    for add_function in add_functions:
        _serve(service, add_function, what, own)
    return handlers or {}


def _made(factory: Callable[[], Any], what: str, loop: EventLoop) -> Any:
    try:
        service = factory()
        return _awaited(service, loop) if hasattr(service, "__await__") else service
    except BaseException as error:
        raise LoadFailure(f"{what} raised {type(error).__name__}: {detail_of(error)}") from error


def _awaited(pending: Any, loop: EventLoop) -> Any:
    from asyncio import run_coroutine_threadsafe

    async def outcome() -> tuple[Any, BaseException | None]:
        try:
            return await pending, None
        except BaseException as error:
            return None, error  # a `SystemExit` that left the task would end the loop

    value, error = run_coroutine_threadsafe(outcome(), loop.start()).result()
    if error is not None:
        raise error
    return value


def _add_functions(service: Any) -> Iterator[Callable[[Any, Any], None]]:
    """Generated code has, beside a class `XServicer`, a function `add_XServicer_to_server`."""
    for servicer in type(service).__mro__:
        module = sys.modules.get(servicer.__module__)
        add_function = getattr(module, f"add_{servicer.__name__}_to_server", None)
        if callable(add_function):
            yield add_function


def _serve(service: Any, add_function: Callable[[Any, Any], None], what: str, own: OwnGrpc | None) -> None:
    if own is None:
        raise LoadFailure(f"{what} is a gRPC service, and this worker has no socket for one")
    from pixell_agent_runtime.a2a_grpc_client import A2AGrpcServer

    try:
        A2AGrpcServer().start(service, add_function)
    except BaseException as error:
        raise LoadFailure(f"{what} cannot be served: {type(error).__name__}: {detail_of(error)}") from error


def _handlers_of(service: Any, what: str) -> Any:
    try:
        return (
            service.get("custom_handlers") if isinstance(service, dict) else getattr(service, "custom_handlers", None)
        )
    except Exception as error:
        raise LoadFailure(f"`custom_handlers` of {what} raised {type(error).__name__}: {detail_of(error)}") from error


def _checked(handlers: Any, what: str) -> dict[str, Handler] | None:
    if handlers is None:
        return None
    if not isinstance(handlers, dict):
        raise LoadFailure(f"`custom_handlers` of {what} is not a dict ({type(handlers).__name__})")
    for name, handler in handlers.items():
        if not isinstance(name, str):
            raise LoadFailure(f"`custom_handlers` of {what} has a name that is not a string: {name!r}")
        if not callable(handler):
            raise LoadFailure(f"custom handler `{name}` of {what} is not callable ({type(handler).__name__})")
    return handlers
