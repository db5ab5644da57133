"""Airflow's own packages of providers, without Airflow: installed once below the cache of tests, with what they need;
and the servers that their operators are shown on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.airflowfiles import CACHE, install, made_once
from harness.fileservers import LOGIN, PASSWORD

PACKAGES = {
    "sqlite": "4.3.4", "postgres": "7.1.1", "http": "6.3.0", "ssh": "7.0.1", "slack": "9.11.1", "amazon": "9.39.0",
    "common-sql": "2.4.0", "common-compat": "1.23.0",
}  # fmt: skip
#: What these import beside Airflow.
NEEDS = (
    "aiohttp>=3.12,<4", "asgiref>=3.8,<4", "deprecated>=1.2,<2", "methodtools>=0.4,<1", "more-itertools>=10,<12",
    "python-slugify>=8,<9", "requests>=2.32,<3", "requests-toolbelt>=1,<2", "slack-sdk>=3.36,<4", "sqlparse>=0.5,<1",
)  # fmt: skip


def installed() -> Path:
    """The folder that they are in. Skips the test where the package index does not answer."""
    pins = [f"apache-airflow-providers-{name}=={version}" for name, version in PACKAGES.items()]
    name = hashlib.sha256(json.dumps([pins, NEEDS]).encode()).hexdigest()[:12]

    def make(folder: Path) -> None:
        install(folder, "--no-deps", *pins)
        install(folder, *NEEDS)

    return made_once(CACHE / f"providers-{name}", make, "Airflow's packages of providers")


@dataclass(eq=False)
class Echo:
    """A web server that keeps what it is sent: `(method, path, headers, body)`."""

    port: int = 0
    seen: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)


@contextlib.contextmanager
def echoing() -> Iterator[Echo]:
    """The server; it answers with the path as JSON, below /hook with Slack's "ok"."""
    echo = Echo()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            echo.seen.append((self.command, self.path, dict(self.headers), body))
            said = b"ok" if self.path.startswith("/hook") else json.dumps({"path": self.path}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = _answer

        def log_message(self, *_given: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    echo.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield echo
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def shell() -> Iterator[int]:
    """The port of an SSH server that tells which command it was given; `fail` ends with 3."""
    import asyncssh

    class Login(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (LOGIN, PASSWORD)

    def perform(process: Any) -> None:
        process.stdout.write(f"ran {process.command}\n")
        process.exit(3 if process.command == "fail" else 0)

    ready, loop, ports = threading.Event(), asyncio.new_event_loop(), []

    async def serve() -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        made = await asyncssh.create_server(
            Login, "127.0.0.1", 0, server_host_keys=[key], process_factory=perform, encoding="utf-8"
        )
        ports.append(made.sockets[0].getsockname()[1])
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(120)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
