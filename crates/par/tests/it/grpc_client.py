"""What the gRPC tests ask, one JSON line a question: a grpcio client without generated code, told what to call.

    {"target": "127.0.0.1:18001", "call": "name", …}   →   {"…": …} | {"code": "NOT_FOUND", "details": "…"}
"""

import json
import sys
import threading
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

CHANNELS = {}


def channel(target):
    if target not in CHANNELS:
        CHANNELS[target] = grpc.insecure_channel(target)
    return CHANNELS[target]


def pool(path):
    files = descriptor_pb2.FileDescriptorSet.FromString(open(path, "rb").read())
    made = descriptor_pool.DescriptorPool()
    for file in files.file:
        made.Add(file)
    return made


POOL = pool(sys.argv[1])


def method(asked):
    service, _, name = asked["method"].rpartition("/")
    found = POOL.FindServiceByName(service).methods_by_name[name]
    request = message_factory.GetMessageClass(found.input_type)
    answer = message_factory.GetMessageClass(found.output_type)
    path = asked.get("prefix", "") + f"/{asked['method']}"
    return path, request, answer


def plain(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def options(asked):
    metadata = [tuple(pair) for pair in asked.get("metadata", [])]
    return {"metadata": metadata, "timeout": asked.get("timeout", 30)}


def unary(asked):
    path, request, answer = method(asked)
    call = channel(asked["target"]).unary_unary(path, request.SerializeToString, answer.FromString)
    said, ended = call.with_call(json_format.ParseDict(asked["message"], request()), **options(asked))
    return {"answer": plain(said), "trailers": pairs(ended.trailing_metadata())}


def stream(asked):
    path, request, answer = method(asked)
    call = channel(asked["target"]).unary_stream(path, request.SerializeToString, answer.FromString)
    began = time.monotonic()
    said = []
    calling = call(json_format.ParseDict(asked["message"], request()), **options(asked))
    for message in calling:
        said.append({**plain(message), "after": time.monotonic() - began})
        if len(said) == asked.get("most"):
            calling.cancel()
            break
    return {"answers": said}


def raw(asked):
    """Bytes to any method, in any of the four kinds: `messages` go in, all that comes out is the answer."""
    data = [bytes.fromhex(text) for text in asked["messages"]]
    make = getattr(channel(asked["target"]), asked["kind"])
    call = make(asked.get("prefix", "") + asked["path"])
    takes_many, gives_many = asked["kind"].startswith("stream"), asked["kind"].endswith("stream")
    if gives_many:
        calling = call(iter(data) if takes_many else data[0], **options(asked))
        return {"answers": [text.hex() for text in calling], "trailers": pairs(calling.trailing_metadata())}
    said, ended = call.with_call(iter(data) if takes_many else data[0], **options(asked))
    return {"answers": [said.hex()], "trailers": pairs(ended.trailing_metadata())}


def talk(asked):
    """A dialogue: each message is sent after the answer to the one before it has come."""
    heard = threading.Semaphore(1)

    def say():
        for text in asked["messages"]:
            heard.acquire()
            yield bytes.fromhex(text)

    call = channel(asked["target"]).stream_stream(asked.get("prefix", "") + asked["path"])
    answers = []
    for answer in call(say(), **options(asked)):
        answers.append(answer.hex())
        heard.release()
    return {"answers": answers}


def many(asked):
    """The same call many times at once; how each ended."""
    call = channel(asked["target"]).unary_unary(asked["path"])
    calls = [call.future(bytes.fromhex(asked["messages"][0]), **options(asked)) for _ in range(asked["count"])]
    codes = {}
    for calling in calls:
        code = calling.code().name
        codes[code] = codes.get(code, 0) + 1
    return {"codes": codes}


def pairs(metadata):
    return [[name, value if isinstance(value, str) else value.hex()] for name, value in metadata or ()]


def main():
    kinds = {"unary": unary, "stream": stream, "raw": raw, "talk": talk, "many": many}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            said = kinds[asked["call"]](asked)
        except grpc.RpcError as error:
            said = {"code": error.code().name, "details": error.details()}
        print(json.dumps(said), flush=True)


main()
