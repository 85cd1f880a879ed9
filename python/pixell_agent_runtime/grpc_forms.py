"""Messages in the form in which the caller has them: bytes, protobuf messages or dicts.

A form turns a request into bytes, and the bytes of an answer into what the caller expects for such a request.
"""

from __future__ import annotations

from pixell_agent_runtime.grpc_package import protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Form(Protocol):
        def encode(self, request: Any) -> bytes: ...
        def decode(self, answer: bytes) -> Any: ...


class Raw:
    """Bytes for bytes, and for messages of whose service nothing is known."""

    def encode(self, request: Any) -> bytes:
        return bytes(request) if isinstance(request, (bytes, bytearray, memoryview)) else request.SerializeToString()

    def decode(self, answer: bytes) -> Any:
        return answer


class Typed:
    """A message of generated code for a message of generated code."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def encode(self, request: Any) -> bytes:
        encoded: bytes = request.SerializeToString()
        return encoded

    def decode(self, answer: bytes) -> Any:
        return self._answer.FromString(answer)


class Dicts:
    """A dict for a dict, named as in the `.proto` file."""

    def __init__(self, method: Any, pool: Any) -> None:
        self._request = _message_class(method.input_type, pool)
        self._answer = _message_class(method.output_type, pool)
        self._pool = pool

    def encode(self, request: Any) -> bytes:
        json_format = protobuf("json_format")
        try:
            message = json_format.ParseDict(request, self._request(), descriptor_pool=self._pool)
        except json_format.ParseError as error:
            raise ValueError(f"the request is no {self._request.DESCRIPTOR.full_name}: {error}") from error
        encoded: bytes = message.SerializeToString()
        return encoded

    def decode(self, answer: bytes) -> Any:
        message = self._answer.FromString(answer)
        return protobuf("json_format").MessageToDict(
            message, preserving_proto_field_name=True, descriptor_pool=self._pool
        )


def form_of(request: Any, service: str, method: str) -> Form | None:
    """The form that such a request has on its own; None for a dict, which needs the description of the service."""
    if isinstance(request, dict):
        return None
    if isinstance(request, (bytes, bytearray, memoryview)):
        return Raw()
    if not hasattr(request, "SerializeToString") or not hasattr(request, "DESCRIPTOR"):
        raise TypeError(f"a request is a protobuf message, bytes or a dict, not {type(request).__name__}")
    pool = request.DESCRIPTOR.file.pool
    try:
        answer = pool.FindServiceByName(service).methods_by_name[method].output_type
    except KeyError:
        return Raw()
    return Typed(_message_class(answer, pool))


def _message_class(descriptor: Any, pool: Any) -> Any:
    message_factory = protobuf("message_factory")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # protobuf before 4.22
