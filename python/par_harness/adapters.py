"""How an agent is called: by its class `PixellAdapter`, by its program `main`, or by its function.

Each becomes a table from the names that callers use to functions of one body; the empty name is `/invoke`.
"""

from __future__ import annotations

from par_harness.failures import detail_of, logged_traceback
from par_harness.loading import LoadFailure, attribute_of, import_module, module_of, resolve
from par_harness.values import BadJson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from par_harness.loading import Load

    Handler = Callable[[Any], Any]
    Cleanup = Callable[[], Any]
    Entry = tuple[str, Handler, Callable[[str], Handler], Cleanup | None]
    # Runs `main` in a process of its own.
    RunProgram = Callable[[Callable[..., Any], dict[str, Any]], Any]

CLASS, MAIN, FUNCTION, NONE = "class", "main", "function", "none"
# As in `inspect`, which is a heavy import.
_CO_COROUTINE, _CO_ASYNC_GENERATOR = 0x80, 0x200
ADAPTER_ACTIONS = ("get_info", "list_capabilities", "execute")
# Before the name of an action of `AgentService.Invoke`: no export is called so.
ACTION = "\0"


class Agent:
    """What was loaded, and what it is called by."""

    def __init__(self, kind: str, handlers: dict[str, Handler], cleanup: Cleanup | None = None) -> None:
        self.kind = kind
        self.handlers = handlers
        self.cleanup = cleanup

    def export_names(self) -> list[str]:
        return [name for name in self.handlers if name and not name.startswith(ACTION)]

    def action_names(self) -> list[str]:
        return [name[1:] for name in self.handlers if name.startswith(ACTION)]


def load_agent(load: Load, programs: Callable[[], RunProgram]) -> Agent:
    if load.entrypoint is None:
        return Agent(NONE, {export["name"]: _own_handler(export, None) for export in load.exports})
    module_name = module_of(load.entrypoint)
    module = import_module(module_name)
    kind, invoke, action_of, cleanup = _entry(load.entrypoint, module, programs)
    handlers = {"": invoke}
    for export in load.exports:
        name = export["name"]
        own = getattr(module, name.replace("-", "_"), None) if export["sub_agent"] else None
        if export["handler"]:
            handlers[name] = _own_handler(export, module_name)
        elif callable(own):
            handlers[name] = own
        else:
            handlers[name] = action_of(name)
    if kind != FUNCTION:
        for name in ADAPTER_ACTIONS:
            handlers.setdefault(name, action_of(name))
    handlers.setdefault("invoke", invoke)
    return Agent(kind, handlers, cleanup)


def is_async(handler: Handler) -> bool:
    """Whether a call of it surely has to be awaited; what is not sure shows when it is called."""
    code = getattr(handler, "__code__", None) or getattr(getattr(type(handler), "__call__", None), "__code__", None)
    return bool(getattr(code, "co_flags", 0) & (_CO_COROUTINE | _CO_ASYNC_GENERATOR))


def _entry(entrypoint: str, module: Any, programs: Callable[[], RunProgram]) -> Entry:
    """The kind of adapter, its `/invoke`, its export of a given action, and what ends it."""
    adapter_class = getattr(module, "PixellAdapter", None)
    if isinstance(adapter_class, type):
        adapter = _made(adapter_class)
        process: Handler = adapter.process_request
        return (
            CLASS,
            lambda body: _class_call(process, {"action": "execute", **_object(body)}),
            lambda name: lambda body: _class_call(process, {**_object(body), "action": name}),
            getattr(adapter, "cleanup", None),
        )
    handler = _callable(resolve(entrypoint, "entrypoint"), f"entrypoint `{entrypoint}`")
    if attribute_of(entrypoint) == "main":
        run_program = programs()
        return (
            MAIN,
            lambda body: run_program(handler, {"action": "invoke", **_object(body)}),
            lambda name: lambda body: run_program(handler, {"action": name, **_object(body)}),
            None,
        )
    return FUNCTION, handler, lambda name: lambda body: handler({**_object(body), "action": name}), None


def _made(adapter_class: type) -> Any:
    try:
        adapter = adapter_class()
    except BaseException as error:
        raise LoadFailure(f"cannot make a PixellAdapter: {type(error).__name__}: {error}") from error
    _callable(getattr(adapter, "process_request", None), "`PixellAdapter.process_request`")
    return adapter


def _class_call(process: Handler, request: dict[str, Any]) -> Any:
    """An adapter's exception is an answer, as its callers have always got it."""
    try:
        answer = process(request)
    except (Exception, SystemExit) as error:
        return _error_answer(error)
    if hasattr(answer, "__await__"):
        return _awaited_class_call(answer)
    return answer if isinstance(answer, dict) else {"result": answer}


async def _awaited_class_call(pending: Any) -> Any:
    try:
        answer = await pending
    except (Exception, SystemExit) as error:
        return _error_answer(error)
    return answer if isinstance(answer, dict) else {"result": answer}


def _error_answer(error: BaseException) -> dict[str, str]:
    logged_traceback(error)
    return {"status": "error", "message": detail_of(error)}


def _own_handler(export: dict[str, Any], entry_module: str | None) -> Handler:
    what = f"handler of export `{export['name']}`"
    if not export["handler"]:
        raise LoadFailure(f"export `{export['name']}` has no handler, and there is no entrypoint to take it")
    return _callable(resolve(export["handler"], what, entry_module), f"{what} `{export['handler']}`")


def _callable(found: Any, what: str) -> Handler:
    if not callable(found):
        raise LoadFailure(f"{what} is not callable ({type(found).__name__})")
    handler: Handler = found
    return handler


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadJson(f"an object is needed here, not {type(body).__name__}")
    return body
