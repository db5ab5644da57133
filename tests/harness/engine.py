"""A small engine that speaks the part of Docker's API which the adapter uses, over a Unix socket.

There is no engine on the machines that test. This one is no container: it runs each command as a process of this
computer, with the container's environment, and sends what it writes in Docker's frames while it runs.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Made:
    """A container: what was asked for, and its process once it was started."""

    body: dict[str, Any]
    name: str
    process: subprocess.Popen[bytes] | None = None
    removed: bool = False
    stopped_with: int | None = None


@dataclass
class Engine:
    """What was asked of it, and the images that it has; `registry` are those that can be fetched."""

    images: set[str] = field(default_factory=lambda: {"alpine:3"})
    registry: set[str] = field(default_factory=lambda: {"alpine:3", "busybox:latest"})
    containers: dict[str, Made] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    started: threading.Event = field(default_factory=threading.Event)
    #: Paths that are answered with 500.
    broken: set[str] = field(default_factory=set)

    @property
    def only(self) -> Made:
        """The one container that was made."""
        [made] = self.containers.values()
        return made


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def engine_at(path: Path) -> Iterator[Engine]:
    """An engine at a socket until the end of the block."""
    engine = Engine()

    class Handler(_Handler):
        pass

    Handler.engine = engine
    server = _Server(str(path), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        for made in engine.containers.values():
            if made.process is not None and made.process.poll() is None:
                os.killpg(made.process.pid, signal.SIGKILL)
                made.process.wait()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Engine

    def do_GET(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def do_DELETE(self) -> None:
        self._route("DELETE")

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: object) -> None:
        return None

    def _route(self, method: str) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        self.body = json.loads(self.rfile.read(length)) if length else {}
        steps = [step for step in parts.path.split("/") if step]
        steps = steps[1:] if steps[0].startswith("v1.") else steps
        place = f"{method} {'/'.join(steps)}"
        self.engine.asked.append(place)
        if steps[0] in self.engine.broken or steps[-1] in self.engine.broken:
            self._tell(500, {"message": "the engine is ill"})
        elif place == "GET version":
            self._tell(200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24", "Version": "25"})
        elif place == "POST images/create":
            self._fetch()
        elif steps[0] == "images":
            known = _tagged("/".join(steps[1:-1])) in self.engine.images
            self._tell(200 if known else 404, {"Id": "sha256:1"} if known else {"message": "No such image"})
        elif place == "POST containers/create":
            self._create()
        elif steps[1] not in self.engine.containers or self.engine.containers[steps[1]].removed:
            self._tell(404, {"message": f"No such container: {steps[1]}"})
        else:
            self._container(method, steps[2] if len(steps) > 2 else "", self.engine.containers[steps[1]])

    def _container(self, method: str, verb: str, made: Made) -> None:
        if method == "DELETE":
            self._end(made, 0)
            made.removed = True
            self._tell(204)
        elif verb == "start":
            self._start(made)
        elif verb == "json":
            self._tell(200, {"Config": {"Tty": False}, "State": {"Running": True}})
        elif verb == "logs":
            self._logs(made)
        elif verb == "wait":
            code = made.process.wait() if made.process is not None else 0
            self._tell(200, {"StatusCode": code if code >= 0 else 128 - code})
        elif verb == "stop":
            made.stopped_with = int(self.query.get("t", 10))
            self._end(made, made.stopped_with)
            self._tell(204)

    def _fetch(self) -> None:
        image = f"{self.query['fromImage']}:{self.query['tag']}"
        if image not in self.engine.registry:
            self._tell(404, {"message": f"pull access denied for {image}"})
            return
        self.engine.images.add(image)
        told = [
            {"status": f"Pulling from {image}", "id": "3"},
            {"status": "Downloading", "id": "ab"},
            {"status": "Status: new"},
        ]
        self._stream(json.dumps(one).encode() + b"\r\n" for one in told)

    def _create(self) -> None:
        if _tagged(self.body["Image"]) not in self.engine.images:
            self._tell(404, {"message": f"No such image: {self.body['Image']}"})
            return
        id_ = f"{len(self.engine.containers) + 1:064x}"
        self.engine.containers[id_] = Made(self.body, self.query.get("name", ""))
        self._tell(201, {"Id": id_, "Warnings": []})

    def _start(self, made: Made) -> None:
        environment = dict(entry.split("=", 1) for entry in made.body.get("Env") or ())
        made.process = subprocess.Popen(
            [*(made.body.get("Entrypoint") or ()), *(made.body.get("Cmd") or ())],
            env={"PATH": os.environ["PATH"], **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._tell(204)
        self.engine.started.set()

    def _logs(self, made: Made) -> None:
        pipe = made.process.stdout if made.process is not None else None
        pieces = iter(lambda: os.read(pipe.fileno(), 4096), b"") if pipe is not None else ()
        self._stream(struct.pack(">BxxxL", 1, len(piece)) + piece for piece in pieces)

    def _stream(self, pieces: Iterable[bytes]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _end(self, made: Made, grace: int) -> None:
        if made.process is None or made.process.poll() is not None:
            return
        os.killpg(made.process.pid, signal.SIGTERM if grace else signal.SIGKILL)
        try:
            made.process.wait(grace)
        except subprocess.TimeoutExpired:
            os.killpg(made.process.pid, signal.SIGKILL)

    def _tell(self, code: int, *told: dict[str, Any]) -> None:
        content = b"".join(json.dumps(one).encode() + b"\r\n" for one in told)
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _tagged(image: str) -> str:
    return image if ":" in image else f"{image}:latest"
