"""Asking a server for the description of a service: gRPC server reflection, v1 and the older v1alpha.

Its messages are so few that they are written and read here, byte by byte:

    request    3 file_by_filename | 4 file_containing_symbol
    response   4 file_descriptor_response { 1 file … }   7 error_response { 1 code, 2 message }
"""

from __future__ import annotations

from pixell_agent_runtime.grpc_package import imported_grpc, protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, AsyncIterator, Callable, Iterator

VERSIONS = ("v1", "v1alpha")
MOST_FILES = 1000
# A server that does not answer this is no reason to wait for ever.
PATIENCE = 30.0


async def describe(channel: Any, service: str, metadata: Any, timeout_seconds: float | None) -> tuple[Any, Any]:
    """The descriptor of the service, and the pool that it lives in."""
    grpc = imported_grpc()
    timeout = PATIENCE if timeout_seconds is None else min(timeout_seconds, PATIENCE)
    for version in VERSIONS:
        # Declared as a stream of requests. One at a time is the same on the wire, and when the server answers before
        # it has read, as one without this version does, grpcio keeps the status.
        method = channel.unary_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")

        def ask(request: bytes, method: Any = method) -> Any:
            return method(request, metadata=metadata, timeout=timeout)

        try:
            return _described(await _files(ask, service), service)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED or version == VERSIONS[-1]:
                raise
        except (LookupError, TypeError, protobuf("message").DecodeError) as error:
            raise _failure(2, f"the description of {service} cannot be understood: {error}") from error
    raise AssertionError("the last version has answered or raised")


async def _files(ask: Callable[[bytes], AsyncIterator[bytes]], service: str) -> dict[str, Any]:
    """The file of the service and those it imports, directly or not."""
    files: dict[str, Any] = {}
    missing = [_field(4, service.encode())]
    asked = set(missing)
    while missing:
        async for answer in ask(missing.pop()):
            for serialized in _files_in(answer):
                file = protobuf("descriptor_pb2").FileDescriptorProto.FromString(serialized)
                files[file.name] = file
        if len(files) > MOST_FILES:
            raise _failure(8, f"{service} is described by more than {MOST_FILES} files")
        for name in {name for file in files.values() for name in file.dependency} - files.keys():
            request = _field(3, name.encode())
            if request not in asked:
                asked.add(request)
                missing.append(request)
    return files


def _described(files: dict[str, Any], service: str) -> tuple[Any, Any]:
    pool = protobuf("descriptor_pool").DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added or name not in files:
            return  # what is missing, the pool itself will miss
        added.add(name)
        for imported in files[name].dependency:
            add(imported)
        pool.AddSerializedFile(files[name].SerializeToString())

    for name in files:
        add(name)
    return pool.FindServiceByName(service), pool


def _files_in(response: bytes) -> list[bytes]:
    files = []
    for number, value in _fields(response):
        if number == 7:
            said = dict(_fields(value))
            raise _failure(said.get(1, 2), f"no description: {said.get(2, b'').decode(errors='replace')}")
        if number == 4:
            files += [file for inner, file in _fields(value) if inner == 1]
    return files


def _failure(code: int, details: str) -> Exception:
    """What the call itself would have raised. The numbers are those of gRPC: 2 is UNKNOWN, 8 RESOURCE_EXHAUSTED."""
    grpc = imported_grpc()
    status = {status.value[0]: status for status in grpc.StatusCode}.get(code, grpc.StatusCode.UNKNOWN)
    error: Exception = grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
    return error


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values; of the four kinds that exist, only lengths and varints matter here."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _read_varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _read_varint(message, at)
        else:
            size = {1: 8, 5: 4}[kind]
        yield key >> 3, message[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
