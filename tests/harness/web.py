"""A web service on a free port of this computer, which answers as the test has it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """A request as it arrived; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class WebService:
    """Answers each request with the next of `answers`, then with 200 and what was asked.

    An answer is a code, a body (bytes, or what becomes JSON), and headers.
    """

    answers: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    def then(self, code: int, body: Any = "", **headers: str) -> WebService:
        """Answer so, after what it was told before."""
        self.answers.append((code, body, {name.replace("_", "-"): value for name, value in headers.items()}))
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(service: WebService) -> Iterator[WebService]:
    """Serve until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            service.asked.append(
                Asked(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            )
            said = {"method": self.command, "path": self.path}
            code, made, headers = service.answers.pop(0) if service.answers else (200, said, {})
            content = made if isinstance(made, bytes) else json.dumps(made).encode()
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
