"""How much of a bare Python loop's speed the harness keeps: `python3 python/bench_harness.py [seconds]`.

The bare loop receives, parses, calls, encodes and sends, and can do nothing else. Both are driven by the same
client in the same run, so only the ratios mean anything.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from par_harness import frames  # noqa: E402

BARE_LOOP = """
import json, socket, struct
header = struct.Struct(">IIB")
channel = socket.socket(fileno=0)
def handler(body):
    return {"echo": body}
data = b""
while True:
    part = channel.recv(65536)
    if not part: break
    data += part
    at, answers = 0, []
    while len(data) - at >= 9:
        length, id, kind = header.unpack_from(data, at)
        end = at + 9 + length
        if end > len(data): break
        body = json.dumps(handler(json.loads(data[at + 11:end]))).encode()
        answers.append(header.pack(len(body), id, 6) + body)
        at = end
    data = data[at:]
    if answers: channel.sendall(b"".join(answers))
"""
SYNC = "def handler(body):\n    return {'echo': body}\n"
ASYNC = "async def handler(body):\n    return {'echo': body}\n"
BODY = json.dumps({"x": 1, "text": "hello"}).encode()


class Peer:
    """A process at the other end of a socketpair."""

    def __init__(self, command: list[str]) -> None:
        self.channel, theirs = socket.socketpair()
        self._process = subprocess.Popen(command, stdin=theirs)
        theirs.close()
        self._id = 0

    def receive_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.channel.recv(1 << 20)
            if not part:
                raise SystemExit("the process under test has ended")
            data += part
        return data

    def rate(self, in_flight: int, seconds: float) -> float:
        """Calls a second with this many in flight; every answer has the same length."""
        self._id = 1 << 20
        self.channel.sendall(self._calls(1))
        head = self.receive_exactly(frames.HEADER_SIZE)
        answer = frames.HEADER_SIZE + frames.HEADER.unpack_from(head)[0]
        self.receive_exactly(answer - len(head)) if len(head) < answer else None
        self.channel.sendall(self._calls(in_flight))
        done, pending, began = 0, 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            pending += len(self.channel.recv(1 << 20))
            finished, pending = divmod(pending, answer)
            done += finished
            if finished:
                self.channel.sendall(self._calls(finished))
        took = time.perf_counter() - began
        self.receive_exactly(in_flight * answer - pending)
        return done / took

    def close(self) -> None:
        self.channel.close()
        self._process.wait()

    def _calls(self, count: int) -> bytes:
        body = frames.with_head(b"", BODY)
        first, self._id = self._id, self._id + count
        return b"".join(frames.frame(id, frames.CALL, body) for id in range(first, first + count))


def harness(folder: str, source: str) -> Peer:
    with open(os.path.join(folder, "main.py"), "w", encoding="utf-8") as file:
        file.write(source)
    peer = Peer([sys.executable, "-I", "-S", os.path.join(HERE, "par_harness", "__main__.py")])
    load = {
        "agent_id": "bench", "root": folder, "site": [], "entrypoint": "main:handler", "exports": [],
        "rest_entry": None, "asgi_app": None, "concurrency": 64, "bytecode": os.path.join(folder, "bytecode"),
    }  # fmt: skip
    began = time.perf_counter()
    peer.channel.sendall(frames.frame(0, frames.LOAD, json.dumps(load).encode()))
    peer.receive_exactly(frames.HEADER_SIZE)
    print(f"ready after {(time.perf_counter() - began) * 1000:.1f} ms")
    return peer


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    print(f"Python {sys.version.split()[0]}, {seconds:g} s each")
    for in_flight in (1, 64):
        rates = {}
        for name, source in (("bare loop", None), ("sync", SYNC), ("async", ASYNC)):
            with tempfile.TemporaryDirectory() as folder:
                peer = harness(folder, source) if source else Peer([sys.executable, "-c", BARE_LOOP])
                rates[name] = peer.rate(in_flight, seconds)
                peer.close()
        for name, rate in rates.items():
            print(
                f"{in_flight:3} in flight  {name:10} {rate:9,.0f}/s  {rate / rates['bare loop']:4.0%} of the bare loop"
            )


if __name__ == "__main__":
    main()
