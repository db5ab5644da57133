"""A proxy on loopback: it opens tunnels (CONNECT) and passes on what is asked by a whole address, for whom it knows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """The proxy. `asked` has the first line of each connection; `login` is the header that it wants, if any."""

    login: str = ""
    asked: list[str] = field(default_factory=list)
    port: int = 0


@contextmanager
def proxying(proxy: Proxy) -> Iterator[Proxy]:
    """Serve until the end of the block."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            first = self.rfile.readline()
            lines = [first]
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                lines.append(line)
            method, target, _ = first.decode().split(" ", 2)
            proxy.asked.append(f"{method} {target}")
            told = [line.decode().partition(": ")[2].strip() for line in lines if line.startswith(b"Proxy-Auth")]
            if proxy.login and told != [proxy.login]:
                self.wfile.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            host, _, port = (target if method == "CONNECT" else urlsplit(target).netloc).rpartition(":")
            with socket.create_connection((host, int(port)), 10) as there:
                if method == "CONNECT":
                    self.wfile.write(b"HTTP/1.1 200 here you are\r\n\r\n")
                else:
                    there.sendall(b"".join(lines) + b"\r\n")
                back = threading.Thread(target=_copied, args=(there, self.connection), daemon=True)
                back.start()
                _copied(self.connection, there)
                back.join(10)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


def _copied(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes, until the end of it."""
    with suppress(OSError):
        while piece := one.recv(1 << 16):
            other.sendall(piece)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)
