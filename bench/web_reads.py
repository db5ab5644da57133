"""The server's side of `./run bench web`: reads a second, time of each route, and what open event streams cost.

The client is a loop over raw sockets, a request at a time on each of a few connections that stay open: it looks for the
length of the answer and for nothing else. Its processor time is told apart from the server's.
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Server:
    """A running server: where, and its processes: the one that was started, and the one that it has forked."""

    host: str
    port: int
    pids: tuple[int, ...]

    def cpu_seconds(self) -> float:
        """Processor time that they have taken."""
        found = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found += int(fields[11]) + int(fields[12])
        return found / _TICK

    def memory_mb(self) -> float:
        """Their memory; what they share is counted once."""
        found = 0
        for pid in self.pids:
            told = re.search(r"Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text())
            assert told is not None
            found += int(told[1])
        return found / 1024


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """`tidemill serve web`, as a user starts it."""
    log = folder / "web.log"
    with log.open("w") as out:
        command = [sys.executable, "-m", "tidemill.cli", "serve", "web"]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 60
        while (found := re.search(r"http://([\d.]+):(\d+)/api", log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Server(found[1], int(found[2]), (process.pid, *map(int, children)))
    finally:
        process.terminate()
        process.wait(30)


class Line:
    """A connection that stays open."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection((server.host, server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""
        self._end = 0

    def send(self, request: bytes) -> None:
        """Ask."""
        self._got, self._end = b"", 0
        self.socket.sendall(request)

    def read(self) -> tuple[bytes, bytes] | None:
        """Take what has come; head and content once the answer is whole."""
        found = self.socket.recv(1 << 18)
        if not found:
            raise SystemExit("the server has closed a connection")
        self._got += found
        if not self._end:
            at = self._got.find(b"\r\n\r\n")
            if at < 0:
                return None
            length = _LENGTH.search(self._got, 0, at + 2)
            self._end = at + 4 + (int(length[1]) if length else 0)
        if len(self._got) < self._end:
            return None
        head, _, content = self._got.partition(b"\r\n\r\n")
        return head, content

    def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Ask, and wait for the answer."""
        self.send(request)
        while (found := self.read()) is None:
            pass
        return found


def request(server: Server, path: str, tag: bytes | None = None) -> bytes:
    """A GET."""
    head = f"GET {path} HTTP/1.1\r\nHost: {server.host}:{server.port}\r\nAccept: application/json\r\n".encode()
    return head + (b"If-None-Match: " + tag + b"\r\n\r\n" if tag else b"\r\n")


def reads_a_second(
    server: Server, paths: Sequence[str], seconds: float, *, tags: bool, lines: int = 8
) -> dict[str, float]:
    """Ask for the paths in turn, for so long; with `tags` as one who has the answers already."""
    first = Line(server)
    requests = []
    for path in paths:
        head, content = first.ask(request(server, path))
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{path}: {head.decode()}\n{content.decode()}")
        tag = re.search(rb'\r\netag: ("[^"]+")', head, re.IGNORECASE)
        requests.append(request(server, path, tag[1] if tags and tag else None))
    chosen = selectors.DefaultSelector()
    for at in range(lines):
        line = Line(server)
        chosen.register(line.socket, selectors.EVENT_READ, line)
        line.send(requests[at % len(requests)])
    done, hits, sent = 0, 0, lines
    own, cpu, began = time.process_time(), server.cpu_seconds(), time.perf_counter()
    until = began + seconds
    while time.perf_counter() < until:
        for key, _ in chosen.select():
            line = key.data
            if (found := line.read()) is not None:
                done += 1
                hits += found[0].startswith(b"HTTP/1.1 304")
                line.send(requests[sent % len(requests)])
                sent += 1
    took = time.perf_counter() - began
    for key in list(chosen.get_map().values()):
        key.data.socket.close()
    return {
        "reads_a_second": done / took, "unchanged": hits / done, "server_cpu": (server.cpu_seconds() - cpu) / took,
        "client_cpu": (time.process_time() - own) / took, "server_us_a_read": (server.cpu_seconds() - cpu) / done * 1e6,
    }  # fmt: skip


def times_of(server: Server, path: str, times: int) -> tuple[list[float], int, int]:
    """Milliseconds of each of some requests; the answer's status and length."""
    line = Line(server)
    found: list[float] = []
    head, content = b"", b""
    for _ in range(times):
        began = time.perf_counter()
        head, content = line.ask(request(server, path))
        found.append((time.perf_counter() - began) * 1000)
    line.socket.close()
    return found, int(head.split(b" ")[1]), len(content)


def streams_at_rest(server: Server, count: int, seconds: float) -> dict[str, float]:
    """What open event streams cost while nothing happens."""
    before = server.memory_mb()
    lines = [Line(server) for _ in range(count)]
    for line in lines:
        line.socket.sendall(request(server, "/api/v1/events"))
    for line in lines:
        told = b""
        while b"event: open" not in told:
            told += line.socket.recv(4096)
    cpu, began = server.cpu_seconds(), time.perf_counter()
    time.sleep(seconds)
    share = (server.cpu_seconds() - cpu) / (time.perf_counter() - began)
    found = {"streams": count, "core": share, "memory_mb": server.memory_mb(), "memory_before_mb": before}
    for line in lines:
        line.socket.close()
    return found
