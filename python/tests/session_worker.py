"""The other end of a session's socketpair: starts a session, sends it code, and waits for results."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

PYTHON_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SESSION = os.path.join(PYTHON_FOLDER, "par_session", "__main__.py")
sys.path.insert(0, PYTHON_FOLDER)

from par_harness import frames  # noqa: E402
from par_session import msgpack  # noqa: E402

PATIENCE = 20.0


class Ended(Exception):
    """The session closed its end."""


class Result:
    """A `result` whose values are decoded; what is not a value is found under its name."""

    def __init__(self, body: bytes) -> None:
        fields = msgpack.decode(body)
        self.ok: bool = fields["ok"]
        self.variables = {name: msgpack.decode(value) for name, value in fields["variables"].items()}
        self.extras = {name: msgpack.decode(value) for name, value in fields["extras"].items()}
        self.opaque: list[str] = fields["opaque"]
        self.hidden: list[str] = fields["hidden"]
        self.error: str = fields["error"]
        self.kind: str = fields["kind"]
        self.traceback: str = fields["traceback"]
        self.changed: list[str] = fields["changed"]
        self.wall: float = fields["wall"]
        self.cpu: float = fields["cpu"]
        self.memory: int = fields["memory"]
        self.size = len(body)

    def __repr__(self) -> str:
        return f"Result({vars(self)})"


class SessionWorker:
    def __init__(self, **load: object) -> None:
        self.root = tempfile.mkdtemp(prefix="par-session-test-")
        self.folder = os.path.join(self.root, "folder")
        os.mkdir(self.folder)
        ours, theirs = socket.socketpair()
        self.channel = ours
        environment = {"PATH": os.environ.get("PATH", ""), **load.pop("env", {})}  # type: ignore[dict-item]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", SESSION],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        theirs.close()
        self.output = {"stdout": b"", "stderr": b""}
        self._arrived = threading.Condition()
        self._frames: queue.Queue[tuple[int, int, bytes] | None] = queue.Queue()
        self._last_id = 0
        self._threads = [
            threading.Thread(target=self._read_frames, daemon=True),
            threading.Thread(target=self._read_output, args=("stdout",), daemon=True),
            threading.Thread(target=self._read_output, args=("stderr",), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        given = {
            "root": None,
            "site": [],
            "folder": self.folder,
            "bytecode": os.path.join(self.root, "bytecode"),
            "result_bytes": 1 << 20,
            **load,
        }
        self.send(0, frames.LOAD, json.dumps(given).encode())

    def send(self, id: int, kind: int, body: bytes = b"") -> None:
        self.channel.sendall(frames.frame(id, kind, body))

    def begin(self, code: str, **fields: object) -> int:
        """Sends a call; values of `context` and `restore` are encoded here."""
        for name in ("context", "restore"):
            if name in fields:
                fields[name] = {key: msgpack.encode(value) for key, value in fields[name].items()}  # type: ignore[attr-defined]
        return self.begin_raw({"code": code, **fields})

    def begin_raw(self, fields: object) -> int:
        self._last_id += 1
        self.send(self._last_id, frames.CALL, msgpack.encode(fields))
        return self._last_id

    def next_frame(self) -> tuple[int, int, bytes]:
        """Kind, id and body."""
        frame = self._frames.get(timeout=PATIENCE)
        if frame is None:
            self._frames.put(None)
            raise Ended(self.output["stderr"].decode(errors="replace"))
        return frame

    def ready(self) -> None:
        frame = self.next_frame()
        assert frame == (frames.READY, 0, b""), frame

    def result(self, id: int) -> Result:
        """Passes over progress."""
        kind, frame_id, body = self.next_frame()
        while kind == frames.CHUNK:
            kind, frame_id, body = self.next_frame()
        assert (kind, frame_id) == (frames.RESULT, id), (kind, frame_id, body)
        return Result(body)

    def run(self, code: str, **fields: object) -> Result:
        return self.result(self.begin(code, **fields))

    def value(self, code: str, **fields: object) -> object:
        """Of the last expression of code that succeeds."""
        result = self.run(code, **fields)
        assert result.ok, result
        return result.extras.get("_")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def wait_for_output(self, stream: str, text: bytes) -> None:
        with self._arrived:
            if not self._arrived.wait_for(lambda: text in self.output[stream], PATIENCE):
                raise AssertionError(f"{text!r} is not in {self.output}")

    def stop(self) -> int:
        self.send(0, frames.STOP)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        self.channel.close()
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()  # type: ignore[union-attr]
        shutil.rmtree(self.root, ignore_errors=True)

    def _read_frames(self) -> None:
        data = bytearray()
        while True:
            try:
                part = self.channel.recv(1 << 20)
            except OSError:
                part = b""
            if not part:
                break
            data += part
            while len(data) >= frames.HEADER_SIZE:
                length, id, kind = frames.HEADER.unpack_from(data)
                end = frames.HEADER_SIZE + length
                if end > len(data):
                    break
                self._frames.put((kind, id, bytes(data[frames.HEADER_SIZE : end])))
                del data[:end]
        self._frames.put(None)

    def _read_output(self, stream: str) -> None:
        pipe = getattr(self.process, stream)
        while True:
            part = os.read(pipe.fileno(), 1 << 16)
            if not part:
                return
            with self._arrived:
                self.output[stream] += part
                self._arrived.notify_all()


class SessionTest(unittest.TestCase):
    """Starts sessions that end with the test."""

    def start(self, **load: object) -> SessionWorker:
        worker = SessionWorker(**load)
        self.addCleanup(worker.close)
        worker.ready()
        return worker
