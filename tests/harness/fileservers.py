"""Servers that hold files for tests: a web server, SFTP by asyncssh, FTP by pyftpdlib. Each can hang up midway."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import hashlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LOGIN, PASSWORD = "partner", "pass-word-of-tests"


@dataclass(eq=False)
class FileServer:
    """A running server of a folder.

    `cut` bytes into each of the next `cuts` files the connection ends; `during` is called when so much was sent.
    """

    folder: Path
    port: int = 0
    cut: int = 0
    cuts: int = 0
    during: Callable[[], None] | None = None
    #: What was asked for.
    seen: list[str] = field(default_factory=list)
    key: str = ""
    #: Of the web server: tells sizes, tags and times; takes ranges.
    tells: bool = True
    ranges: bool = True
    status: int | None = None

    def ends_here(self, sent: int) -> bool:
        """Whether the connection ends now."""
        if self.during is not None and sent >= self.cut:
            during, self.during = self.during, None
            during()
        if self.cuts and sent >= self.cut:
            self.cuts -= 1
            return True
        return False


# -- a web server


@contextlib.contextmanager
def web(folder: Path) -> Iterator[FileServer]:
    """A web server with basic authentication below /private."""
    server = FileServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            server.seen.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
            path = unquote(urlsplit(self.path).path).lstrip("/")
            if server.status is not None:
                self._empty(server.status)
                return
            if path.startswith("private/"):
                import base64

                wanted = "Basic " + base64.b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()
                if self.headers.get("Authorization") != wanted:
                    self._empty(401)
                    return
            if path.startswith("moved/"):
                self.send_response(302)
                self.send_header("Location", f"/{path.removeprefix('moved/')}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            file = server.folder / path
            if not file.is_file():
                self._empty(404)
                return
            content = file.read_bytes()
            tag = '"' + hashlib.sha256(content).hexdigest()[:12] + '"'
            start, status = 0, 200
            asked = self.headers.get("Range")
            if asked and server.ranges and self.headers.get("If-Range", tag) == tag:
                start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if server.tells:
                self.send_header("Content-Length", str(len(content) - start))
                self.send_header("ETag", tag)
                self.send_header("Last-Modified", email.utils.formatdate(file.stat().st_mtime, usegmt=True))
            else:
                self.close_connection = True
                self.send_header("Connection", "close")
            self.end_headers()
            if body:
                sent = 0
                for at in range(start, len(content), 10_000):
                    if server.ends_here(sent):
                        self.close_connection = True
                        with contextlib.suppress(OSError):
                            self.connection.shutdown(socket.SHUT_RDWR)
                        return
                    self.wfile.write(content[at : at + 10_000])
                    sent += len(content[at : at + 10_000])

        def _empty(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_arguments: object) -> None:
            """Whoever asked has gone."""

    made = Server(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    server.port = made.server_address[1]
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


# -- SFTP


@contextlib.contextmanager
def sftp(folder: Path) -> Iterator[FileServer]:
    """An SFTP server by asyncssh."""
    import asyncssh

    logging.getLogger("asyncssh").setLevel(logging.CRITICAL)
    server = FileServer(folder)
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    server.key = host_key.get_fingerprint()
    connections: list[Any] = []

    class Login(asyncssh.SSHServer):
        def connection_made(self, conn: Any) -> None:
            connections.append(conn)

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (LOGIN, PASSWORD)

    class Files(asyncssh.SFTPServer):
        def __init__(self, chan: Any) -> None:
            super().__init__(chan, chroot=str(folder))
            self._sent = 0

        def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
            server.seen.append(f"open {path.decode()}")
            self._sent = 0
            return super().open(path, pflags, attrs)

        def scandir(self, path: bytes) -> Any:
            server.seen.append(f"list {path.decode()}")
            return super().scandir(path)

        def read(self, file_obj: Any, offset: int, size: int) -> Any:
            if server.ends_here(self._sent):
                for connection in connections:
                    connection.abort()
                return b""
            piece = super().read(file_obj, offset, size)
            self._sent += len(piece)
            return piece

    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        made = await asyncssh.create_server(
            Login, "127.0.0.1", 0, server_host_keys=[host_key], sftp_factory=Files, process_factory=None
        )
        server.port = made.sockets[0].getsockname()[1]
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


# -- FTP


@contextlib.contextmanager
def ftp(folder: Path, *, old: bool = False) -> Iterator[FileServer]:
    """An FTP server by pyftpdlib; an old one lists names only."""
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import DTPHandler, FTPHandler
    from pyftpdlib.servers import ThreadedFTPServer

    logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
    server = FileServer(folder)
    authorizer = DummyAuthorizer()
    authorizer.add_user(LOGIN, PASSWORD, str(folder), perm="elr")

    class Data(DTPHandler):
        def send(self, data: bytes) -> int:
            sent: int = super().send(data)
            if self.cmd == "RETR" and server.ends_here(self.tot_bytes_sent):
                self.cmd_channel.close()
                self.close()
            return sent

        ac_out_buffer_size = 10_000

    class Control(FTPHandler):
        dtp_handler = Data
        use_sendfile = False

        def pre_process_command(self, line: str, cmd: str, arg: str) -> Any:
            server.seen.append(line if cmd != "PASS" else "PASS")
            if old and cmd == "MLSD":
                self.respond("502 Command not implemented.")
                return None
            return super().pre_process_command(line, cmd, arg)

    Control.authorizer = authorizer
    made = ThreadedFTPServer(("127.0.0.1", 0), Control)
    made.poll_timeout = 0.05  # its threads look so often whether they shall end
    server.port = made.address[1]
    thread = threading.Thread(target=made.serve_forever, args=(made.poll_timeout,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        made.close_all()
        thread.join(10)
