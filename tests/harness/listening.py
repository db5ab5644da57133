"""Small servers that take what notifiers send: HTTP and SMTP, on free ports of this computer."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HttpListener:
    """What was posted; `answers` are status codes for the next posts, then 200."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code = listener.answers.pop(0) if listener.answers else 200
                if code == 200:
                    listener.posted.append(json.loads(body))
                    listener.headers.append(dict(self.headers.items()))
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"


class MailListener:
    """Messages that were sent, as text; speaks as much SMTP as it takes."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.readers: list[str] = []
        #: Addresses that it does not take.
        self.strangers: set[str] = set()
        listener = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 here\r\n")
                for line in self.rfile:
                    word = line.split()[0].upper() if line.strip() else b""
                    if word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        text = b""
                        while (more := self.rfile.readline()) != b".\r\n":
                            text += more
                        listener.messages.append(text.decode())
                    if word == b"RCPT":
                        reader = line.decode().partition("<")[2].partition(">")[0]
                        if reader in listener.strangers:
                            self.wfile.write(b"550 unknown\r\n")
                            continue
                        listener.readers.append(reader)
                    self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 fine\r\n")
                    if word == b"QUIT":
                        return

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def listening(listener: HttpListener | MailListener) -> Iterator[None]:
    thread = threading.Thread(target=listener.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.server.shutdown()
        listener.server.server_close()
        thread.join()
