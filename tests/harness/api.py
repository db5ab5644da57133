"""A web service on loopback whose answers a function makes, and which fails as a test has it: over kept connections."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Call:
    """A request as it arrived; names of headers in lower case, the query's values as lists."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    connection: int

    def one(self, name: str, default: str = "") -> str:
        """The first value of a parameter."""
        return self.query.get(name, [default])[0]

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass
class Said:
    """An answer: `body` as bytes, or what becomes JSON."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


#: How a request can fail: an answer in the place of the right one, or one of
#: "drop": the connection ends without a byte; "half": in the middle of the body; "hang": no byte comes;
#: "garbage": what is no HTTP; "html": a page with code 200; "cut": half of the body, as if it were the whole;
#: "lost": it is carried out, and the answer does not come.
Fault = Said | str


@dataclass
class Api:
    """The service. `answer` makes the answer of a call; the next `faults` come first, one for each call."""

    answer: Callable[[Call], Said]
    faults: deque[Fault | None] = field(default_factory=deque)
    calls: list[Call] = field(default_factory=list)
    port: int = 0
    #: Its certificate and key; None: it is asked by http.
    tls: ssl.SSLContext | None = None
    #: The most calls that were being answered at the same time.
    most: int = 0
    #: So many calls wait for each other before they are answered.
    together: threading.Barrier | None = None

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"


@contextmanager
def serving(api: Api, port: int = 0) -> Iterator[Api]:
    """Serve until the end of the block."""
    lock, now = threading.Lock(), [0]
    ending = threading.Event()
    open_: set[socket.socket] = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            open_.add(self.connection)

        def finish(self) -> None:
            open_.discard(self.connection)
            with suppress(OSError):
                super().finish()

        def serve(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            call = Call(self.command, parts.path, parse_qs(parts.query, True), headers, body, id(self))
            with lock:
                now[0] += 1
                api.most = max(api.most, now[0])
                api.calls.append(call)
                fault = api.faults.popleft() if api.faults else None
            if api.together is not None:
                with suppress(threading.BrokenBarrierError):
                    api.together.wait(10)
            try:
                self.say(call, fault)
            finally:
                with lock:
                    now[0] -= 1

        def say(self, call: Call, fault: Fault | None) -> None:
            if fault == "lost":
                api.answer(call)
            if fault in ("drop", "hang", "garbage", "lost"):
                self.close_connection = True
                if fault == "hang":
                    ending.wait(30)
                elif fault == "garbage":
                    self.wfile.write(b"this is no HTTP at all\r\n\r\n")
                    self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            said = fault if isinstance(fault, Said) else api.answer(call)
            if fault == "html":
                said = Said(b"<html>We are improving our service.</html>")
            content = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
            sent = content[: len(content) // 2] if fault in ("half", "cut") else content
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if said.status != 204:
                self.send_header("Content-Length", str(len(sent if fault == "cut" else content)))
            self.end_headers()
            self.wfile.write(sent)
            self.wfile.flush()
            if fault == "half":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_POST = serve

        def log_message(self, *_: object) -> None:
            return None

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            return None

    server = Server(("127.0.0.1", port), Handler)
    api.port = server.server_port
    if api.tls is not None:
        server.socket = api.tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        ending.set()
        server.shutdown()
        for one in list(open_):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        server.server_close()
        thread.join()


def paged(records: list[Any], size: int, how: str) -> Callable[[Call], Said]:
    """A service that gives records in pages of a size: by "page", "offset", "cursor", "link" or "url"."""

    def answer(call: Call) -> Said:
        given = call.one({"page": "page", "offset": "offset"}.get(how, "after"), "")
        at = (int(given or 1) - 1) * size if how == "page" else int(given or 0)
        page, after = records[at : at + size], at + size
        more = after < len(records)
        here = f"http://{call.headers['host']}{call.path}"
        following = f"{here}?after={after}"
        if how == "link":
            links = f'<{here}>; rel="first"' + (f', <{following}>; rel="next"' if more else "")
            return Said(page, headers={"Link": links})
        if how == "url":
            return Said({"data": page, "next": f"?after={after}" if more else None})
        if how == "cursor":
            return Said({"data": page, "next": str(after) if more else None})
        return Said({"data": page, "total": len(records)})

    return answer
