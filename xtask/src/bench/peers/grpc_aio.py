"""`pixell.agent.AgentService/Invoke` of a plain grpc.aio server: `python grpc_aio.py HOST:PORT DESCRIPTORS`.

As grpcio's documentation starts one. The messages are what protoc's Python would be: classes of the same runtime.
"""

import asyncio
import sys
import time

import grpc
from google.protobuf import descriptor_pb2, message_factory

SERVICE = "pixell.agent.AgentService"


async def echo(parameters):
    return parameters["x"]


HANDLERS = {"echo": echo}


async def main(address, descriptors):
    with open(descriptors, "rb") as file:
        files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    classes = message_factory.GetMessages(files.file)
    asked, result = classes["pixell.agent.ActionRequest"], classes["pixell.agent.ActionResult"]

    async def invoke(request, context):
        began = time.monotonic()
        answer = await HANDLERS[request.action](dict(request.parameters))
        took = int((time.monotonic() - began) * 1000)
        return result(success=True, result=str(answer), request_id=request.request_id, duration_ms=took)

    method = grpc.unary_unary_rpc_method_handler(
        invoke, request_deserializer=asked.FromString, response_serializer=result.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Invoke": method}),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
