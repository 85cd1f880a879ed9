"""What grpcio-tools makes of this, as it is packed with agents: modules that import each other by bare names.

    syntax = "proto3";
    package greet;
    import "google/protobuf/timestamp.proto";
    message Ask { string name = 1; int32 n = 2; google.protobuf.Timestamp at = 3; }
    message Answer { string text = 1; int32 total_count = 2; }
    service Greeter {
      rpc Greet(Ask) returns (Answer);
      rpc Count(Ask) returns (stream Answer);
      rpc Sum(stream Ask) returns (Answer);
      rpc Chat(stream Ask) returns (stream Answer);
    }

Left out are the comments, the checks of versions and the stub for clients.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
import unittest

from fake_worker import FakeWorker, HarnessTest

# In this process, which starts others beside servers: what grpcio does at a fork can end the child, and fills the log.
os.environ.update(GRPC_ENABLE_FORK_SUPPORT="0", GRPC_VERBOSITY="NONE")
MISSING = [name for name in ("grpc", "google.protobuf") if not importlib.util.find_spec(name.partition(".")[0])]
needs_grpc = unittest.skipIf(MISSING, f"{MISSING} not installed for this interpreter")

DESCRIPTION = (
    b'\n\x0bgreet.proto\x12\x05greet\x1a\x1fgoogle/protobuf/timestamp.proto"F\n\x03Ask'
    b"\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\t\n\x01n\x18\x02 \x01(\x05\x12&\n\x02at\x18\x03 \x01(\x0b2\x1a.google."
    b'protobuf.Timestamp"+\n\x06Answer\x12\x0c\n\x04text\x18\x01 \x01(\t\x12\x13\n\x0btotal_count\x18\x02 '
    b'\x01(\x052\x9e\x01\n\x07Greeter\x12"\n\x05Greet\x12\n.greet.Ask\x1a\r.greet.Answer\x12$\n\x05Count'
    b'\x12\n.greet.Ask\x1a\r.greet.Answer0\x01\x12"\n\x03Sum\x12\n.greet.Ask\x1a\r.greet.Ans'
    b"wer(\x01\x12%\n\x04Chat\x12\n.greet.Ask\x1a\r.greet.Answer(\x010\x01b\x06proto3"
)

PB2 = f"""
from google.protobuf import descriptor as _descriptor
from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf import symbol_database as _symbol_database
from google.protobuf.internal import builder as _builder
_sym_db = _symbol_database.Default()
from google.protobuf import timestamp_pb2 as google_dot_protobuf_dot_timestamp__pb2
DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile({DESCRIPTION!r})
_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, 'greet_pb2', _globals)
"""

PB2_GRPC = """
import grpc
import greet_pb2 as greet__pb2

class GreeterServicer(object):

    def Greet(self, request, context):
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        context.set_details('Method not implemented!')
        raise NotImplementedError('Method not implemented!')

    def Count(self, request, context):
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        context.set_details('Method not implemented!')
        raise NotImplementedError('Method not implemented!')

    def Sum(self, request_iterator, context):
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        context.set_details('Method not implemented!')
        raise NotImplementedError('Method not implemented!')

    def Chat(self, request_iterator, context):
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        context.set_details('Method not implemented!')
        raise NotImplementedError('Method not implemented!')


def add_GreeterServicer_to_server(servicer, server):
    rpc_method_handlers = {
            'Greet': grpc.unary_unary_rpc_method_handler(
                    servicer.Greet,
                    request_deserializer=greet__pb2.Ask.FromString,
                    response_serializer=greet__pb2.Answer.SerializeToString,
            ),
            'Count': grpc.unary_stream_rpc_method_handler(
                    servicer.Count,
                    request_deserializer=greet__pb2.Ask.FromString,
                    response_serializer=greet__pb2.Answer.SerializeToString,
            ),
            'Sum': grpc.stream_unary_rpc_method_handler(
                    servicer.Sum,
                    request_deserializer=greet__pb2.Ask.FromString,
                    response_serializer=greet__pb2.Answer.SerializeToString,
            ),
            'Chat': grpc.stream_stream_rpc_method_handler(
                    servicer.Chat,
                    request_deserializer=greet__pb2.Ask.FromString,
                    response_serializer=greet__pb2.Answer.SerializeToString,
            ),
    }
    generic_handler = grpc.method_handlers_generic_handler(
            'greet.Greeter', rpc_method_handlers)
    server.add_generic_rpc_handlers((generic_handler,))
    server.add_registered_method_handlers('greet.Greeter', rpc_method_handlers)
"""

STUBS = {"src/a2a/greet_pb2.py": PB2, "src/a2a/greet_pb2_grpc.py": PB2_GRPC}


class GrpcTest(HarnessTest):
    """Agents that serve on a socket of their own, and call through a door, in a folder whose path is short enough."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="par-grpc-")
        self.addCleanup(folder.cleanup)
        self.own = os.path.join(folder.name, "own")
        self.door = os.path.join(folder.name, "door")

    def launch(self, files: dict[str, str], **load: object) -> FakeWorker:
        site = [os.path.dirname(os.path.dirname(importlib.util.find_spec("grpc").origin))]
        return super().launch(
            {**STUBS, **files}, **{"site": site, "own_grpc_socket": self.own, "grpc_door": self.door, **load}
        )

    def wait_until(self, holds, patience: float = 20.0) -> None:
        until = time.monotonic() + patience
        while not holds():
            self.assertLess(time.monotonic(), until, "it has not come true")
            time.sleep(0.005)


def messages() -> tuple[type, type]:
    """`Ask` and `Answer`, in a pool of their own."""
    from google.protobuf import descriptor_pool, message_factory, timestamp_pb2

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(DESCRIPTION)
    return tuple(
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"greet.{name}")) for name in ("Ask", "Answer")
    )
