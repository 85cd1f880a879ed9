"""The agent's own paths: any ASGI application, driven over frames instead of a port."""

from __future__ import annotations

from par_harness.asgi_http import HttpExchange
from par_harness.asgi_lifespan import Lifespan
from par_harness.asgi_websocket import WebSocketExchange
from par_harness.failures import logged_traceback
from par_harness.loading import LoadFailure, module_of, resolve
from par_harness.values import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from par_harness.channel import Channel
    from par_harness.event_loop import EventLoop
    from par_harness.loading import Load
    from par_harness.streams import Streams


class Surface:
    """The application and what it needs to be driven."""

    def __init__(self, application: Any, channel: Channel, streams: Streams, loop: EventLoop) -> None:
        self._application = application
        self._channel = channel
        self._streams = streams
        self._loop = loop
        self._lifespan = Lifespan(application, loop)

    def start_up(self) -> None:
        self._lifespan.start_up()

    def shut_down(self) -> None:
        self._lifespan.shut_down()

    def on_http(self, id: int, body: bytes) -> None:
        """A request, or the end of a WebSocket. On the reading thread, so that chunks find their exchange."""
        head = decode(body.decode())
        if "method" not in head:
            exchange = self._streams.get(id)
            if isinstance(exchange, WebSocketExchange):
                exchange.on_disconnect(head["code"], head["reason"])
            return
        kind = WebSocketExchange if head["websocket"] else HttpExchange
        exchange = kind(self._application, head, self._lifespan.state, id, self._channel, self._streams, self._loop)
        self._streams.open(id, exchange)
        self._loop.post_begin(id, exchange.begin)


def load_application(load: Load) -> Any:
    """The one application of this agent: its own, or FastAPI with the agent's routes; None if it has none."""
    own = None
    if load.asgi_app is not None:
        own = resolve(load.asgi_app, "ASGI application")
        if not callable(own):
            raise LoadFailure(f"ASGI application `{load.asgi_app}` is not callable ({type(own).__name__})")
    return own if load.rest_entry is None else _mounted(load.rest_entry, load.entrypoint, own)


def _mounted(rest_entry: str, entrypoint: str | None, own: Any) -> Any:
    mount = resolve(rest_entry, "REST entry", module_of(entrypoint) if entrypoint else None)
    if not callable(mount):
        raise LoadFailure(f"REST entry `{rest_entry}` is not callable ({type(mount).__name__})")
    try:
        from fastapi import FastAPI
    except ImportError as error:
        raise LoadFailure(f"REST entry `{rest_entry}` needs FastAPI: {error}") from error
    application = FastAPI()
    try:
        mount(application)
    except BaseException as error:
        logged_traceback(error)
        raise LoadFailure(f"REST entry `{rest_entry}` raised {type(error).__name__}: {error}") from error
    if own is not None:
        application.mount("/", own)
    return application
