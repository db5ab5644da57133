"""A small web server for one page, `/metrics`. Between two questions it waits in one system call."""

from __future__ import annotations

import hmac
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tidemill.adapters.prometheus.text import CONTENT_TYPE
from tidemill.model.errors import SettingsError, TidemillError

_log = logging.getLogger("tidemill")

#: Seconds in which whoever has connected must have asked: a connection that says nothing holds a thread.
_PATIENCE = 10.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    #: A stop waits for nobody's answer.
    block_on_close = False

    def __init__(self, host: str, port: int, text: Callable[[], str], token: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.text = text
        self.token = token
        self.closing = False
        super().__init__((host, port), _Page)

    def verify_request(self, request: object, client_address: object) -> bool:
        """Whoever connects to wake the thread at the end gets no thread for an answer."""
        return not self.closing


class _Page(BaseHTTPRequestHandler):
    timeout = _PATIENCE
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self._send(404, "metrics are at /metrics\n")
        elif not self._may():
            self._send(401, "a token is needed: Authorization: Bearer TOKEN\n", ("WWW-Authenticate", "Bearer"))
        else:
            try:
                self._send(200, self.server.text())
            except TidemillError as error:
                _log.warning("/metrics: %s", error)
                self._send(503, f"{error.what}\n")

    def _may(self) -> bool:
        given = self.headers.get("Authorization", "").encode()
        return not self.server.token or hmac.compare_digest(given, f"Bearer {self.server.token}".encode())

    def _send(self, code: int, text: str, *headers: tuple[str, str]) -> None:
        content = text.encode()
        self.send_response(code)
        for name, value in (("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(content))), *headers):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def version_string(self) -> str:
        """What answers, and nothing about versions."""
        return "tidemill"

    def log_message(self, format: str, *args: object) -> None:
        """Questions come every few seconds: none is logged."""


class MetricsServer:
    """Answers in threads of its own from the start, until `close`.

    Args:
        host, port: where; port 0 takes a free one.
        text: gives the page; called for each question, in any thread.
        token: what callers show; empty: anybody may ask.

    Raises:
        SettingsError: the address is taken, or none of this computer's.
    """

    def __init__(self, host: str, port: int, text: Callable[[], str], token: str = "") -> None:
        try:
            self._server = _Server(host, port, text, token)
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"Metrics cannot be served at {host}:{port}: {getattr(error, 'strerror', None) or error}.",
                hint='[metrics] listen = "127.0.0.1:9464"',
            ) from None
        self._where: tuple[str, int] = self._server.socket.getsockname()[:2]
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        # `serve_forever` looks twice a second whether it is to stop; this sleeps until somebody connects.
        while not self._server.closing:
            self._server.handle_request()

    @property
    def address(self) -> str:
        """Where it answers."""
        host, port = self._where
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"

    def close(self) -> None:
        """Answer no more."""
        self._server.closing = True
        with suppress(OSError):  # somebody connects: the thread itself
            socket.create_connection(self._where, 1.0).close()
        self._thread.join(_PATIENCE)
        self._server.server_close()
