"""The other end of the socketpair: starts a harness on a package made of strings, and waits for frames."""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

PYTHON_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HARNESS = os.path.join(PYTHON_FOLDER, "par_harness", "__main__.py")
sys.path.insert(0, PYTHON_FOLDER)

from par_harness import frames  # noqa: E402

PATIENCE = 20.0


class Ended(Exception):
    """The harness closed its end."""


class FakeWorker:
    """Frames by id: `next_of(id)` waits for the next frame that concerns this id."""

    def __init__(self, files: dict[str, str], **load: object) -> None:
        self.root = tempfile.mkdtemp(prefix="par-harness-test-")
        self.package = os.path.join(self.root, "package")
        os.mkdir(self.package)
        for name, text in files.items():
            path = os.path.join(self.package, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        ours, theirs = socket.socketpair()
        self.channel = ours
        environment = {"PATH": os.environ.get("PATH", ""), **load.pop("env", {})}  # type: ignore[dict-item]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", HARNESS],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.package,
            env=environment,
        )
        theirs.close()
        self.output = {"stdout": b"", "stderr": b""}
        self._arrived = threading.Condition()
        self._frames: dict[int, queue.Queue[tuple[int, bytes] | None]] = {}
        self._over = False
        self._next_id = 0
        self._threads = [
            threading.Thread(target=self._read_frames, daemon=True),
            threading.Thread(target=self._read_output, args=("stdout",), daemon=True),
            threading.Thread(target=self._read_output, args=("stderr",), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.send(0, frames.LOAD, json.dumps(self._load(load)).encode())

    def _load(self, given: dict[str, object]) -> dict[str, object]:
        return {
            "agent_id": "tested",
            "root": self.package,
            "site": [],
            "entrypoint": "main:handler",
            "exports": [],
            "rest_entry": None,
            "asgi_app": None,
            "concurrency": 64,
            "bytecode": os.path.join(self.root, "bytecode"),
            "a2a_service": None,
            "own_grpc_socket": None,
            "grpc_door": None,
            **given,
        }

    # Sending

    def new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def send(self, id: int, kind: int, body: bytes = b"") -> None:
        self.channel.sendall(frames.frame(id, kind, body))

    def call(self, body: object = None, export: str = "") -> int:
        raw = b"" if body is None else json.dumps(body).encode()
        return self.call_raw(raw, export)

    def call_raw(self, raw: bytes, export: str = "") -> int:
        id = self.new_id()
        self.send(id, frames.CALL, frames.with_head(export.encode(), raw))
        return id

    # Waiting

    def next_of(self, id: int, patience: float = PATIENCE) -> tuple[int, bytes]:
        frame = self._queue(id).get(timeout=patience)
        if frame is None:
            self._queue(id).put(None)
            raise Ended(self.output["stderr"].decode(errors="replace"))
        return frame

    def ready(self) -> dict:
        kind, body = self.next_of(0)
        assert kind == frames.READY, (kind, body)
        return json.loads(body)

    def result(self, id: int) -> object:
        kind, body = self.next_of(id)
        assert kind == frames.RESULT, (kind, body)
        return json.loads(body)

    def failure(self, id: int) -> dict:
        kind, body = self.next_of(id)
        assert kind == frames.ERROR, (kind, body)
        return json.loads(body)

    def ask(self, body: object = None, export: str = "") -> object:
        return self.result(self.call(body, export))

    def wait_for_output(self, stream: str, text: bytes) -> None:
        with self._arrived:
            if not self._arrived.wait_for(lambda: text in self.output[stream], PATIENCE):
                raise AssertionError(f"{text!r} is not in {self.output}")

    def stop(self) -> int:
        self.send(0, frames.STOP)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.channel.close() if self.process.poll() is not None else self.process.kill()
        self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        self.channel.close()
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()
        shutil.rmtree(self.root)

    # Reading

    def _queue(self, id: int) -> queue.Queue[tuple[int, bytes] | None]:
        with self._arrived:
            fresh = id not in self._frames
            found = self._frames.setdefault(id, queue.Queue())
            if fresh and self._over:
                found.put(None)
            return found

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
            at = 0
            while len(data) - at >= frames.HEADER_SIZE:
                length, id, kind = frames.HEADER.unpack_from(data, at)
                end = at + frames.HEADER_SIZE + length
                if end > len(data):
                    break
                # What the agent asks on its own is found under 1 << 31.
                key = frames.OUTBOUND_BIT if kind == frames.OUTBOUND else id
                body = bytes(data[at + frames.HEADER_SIZE : end])
                self._queue(key).put((kind, body) if key == id else (id, body))
                at = end
            del data[:at]
        with self._arrived:
            self._over = True
            for waiting in self._frames.values():
                waiting.put(None)

    def _read_output(self, stream: str) -> None:
        pipe = getattr(self.process, stream)
        while True:
            part = os.read(pipe.fileno(), 1 << 16)
            if not part:
                return
            with self._arrived:
                self.output[stream] += part
                self._arrived.notify_all()


class HarnessTest(unittest.TestCase):
    """Starts harnesses that end with the test."""

    def start(self, main: str = "", **more: object) -> FakeWorker:
        """A loaded agent whose `main.py` is this text."""
        worker = self.launch({"main.py": main}, **more)
        self.ready = worker.ready()
        return worker

    def launch(self, files: dict[str, str], **load: object) -> FakeWorker:
        worker = FakeWorker(files, **load)
        self.addCleanup(worker.close)
        return worker
