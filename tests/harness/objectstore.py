"""An S3 server for tests, moto's; and a proxy before it that fails as stores and networks do."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3

from harness.programs import Program, free_port
from harness.s3keys import KEY, SECRET


@dataclass(eq=False)
class ObjectStore:
    """A running server."""

    endpoint: str
    client: Any

    def bucket(self) -> str:
        """Make a bucket of a test's own; its name."""
        name = f"b-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> list[str]:
        """All names in a bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [one["Key"] for page in pages for one in page.get("Contents", ())]

    def empty(self, bucket: str) -> None:
        """Delete everything in a bucket."""
        for key in self.keys(bucket):
            self.client.delete_object(Bucket=bucket, Key=key)

    def content(self, bucket: str) -> dict[str, bytes]:
        """All that is in a bucket."""
        return {key: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in self.keys(bucket)}

    def restore(self, bucket: str, content: dict[str, bytes]) -> None:
        """Make a bucket hold that and nothing else; what it holds under a name it has had from the start."""
        there = set(self.keys(bucket))
        for key in there - content.keys():
            self.client.delete_object(Bucket=bucket, Key=key)
        for key in content.keys() - there:
            self.client.put_object(Bucket=bucket, Key=key, Body=content[key])

    def uploads(self, bucket: str) -> list[str]:
        """Names of uploads that nobody completed or gave up."""
        return [one["Key"] for one in self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


@contextlib.contextmanager
def serving() -> Iterator[ObjectStore]:
    """Run a server, in a process of its own: an object of a library that ends with its upload open may speak to the
    server from its finaliser without letting go of the interpreter, and a server in the same process never answers.
    """
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
    )
    with tempfile.TemporaryDirectory(prefix="tidemill-s3-") as folder:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        program = Program("moto's server", command, Path(folder, "log"), {}, lambda: _listens(port))
        program.start()
        try:
            yield ObjectStore(endpoint, client)
        finally:
            program.kill()


def _listens(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()


def settings_in(store: ObjectStore, bucket: str, endpoint: str | None = None) -> str:
    """A `tidemill.toml` of a project whose lake and archive are in a bucket. Keys come from the environment."""
    return (
        '[project]\nname = "test"\n'
        f'[lake]\nurl = "s3://{bucket}/wide/lake"\n[archive]\nurl = "s3://{bucket}/wide/archive"\n'
        f'[s3]\nendpoint = "{endpoint or store.endpoint}"\nregion = "us-east-1"\n'
    )


@dataclass(frozen=True)
class Request:
    """What a fault looks at."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


#: What a fault does to a request: "500", "503" or another code, "drop" (no answer), "cut" (half of the answer), "hang",
#: "done" (it is done, and the answer is lost), "lost" (it is done, and answered by 500), "unconditional" (conditions
#: are taken off).
Fault = Callable[[Request], str | None]


@dataclass(eq=False)
class FaultyProxy:
    """A proxy of one server; `fault` decides what happens to each request."""

    target: str
    fault: Fault = lambda _request: None
    #: Requests that came, as "METHOD path".
    seen: list[str] = field(default_factory=list)
    endpoint: str = ""
    #: What a code is answered with.
    error: bytes = b"<Error><Code>Some</Code></Error>"
    released: threading.Event = field(default_factory=threading.Event)

    def first(self, times: int, what: str, wanted: Callable[[Request], bool] = lambda _request: True) -> None:
        """From now on, do `what` to the first `times` requests that are wanted."""
        left = [times]
        lock = threading.Lock()

        def fault(request: Request) -> str | None:
            with lock:
                if left[0] and wanted(request):
                    left[0] -= 1
                    return what
            return None

        self.fault = fault


@contextlib.contextmanager
def proxying(target: str) -> Iterator[FaultyProxy]:
    """Run a proxy before a server."""
    proxy = FaultyProxy(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: object) -> None:
            pass

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else b""
            headers = dict(self.headers.items())
            proxy.seen.append(f"{self.command} {self.path}")
            what = proxy.fault(Request(self.command, self.path, {k.lower(): v for k, v in headers.items()}, body))
            if what is not None and what.isdigit():
                self._answer(int(what), [], proxy.error)
                return
            if what == "drop":
                self._hang_up()
                return
            if what == "hang":
                proxy.released.wait(30)
                self._hang_up()
                return
            if what == "unconditional":
                headers = {k: v for k, v in headers.items() if k.lower() not in ("if-none-match", "if-match")}
            parts = urlsplit(proxy.target)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if what == "done":
                self._hang_up()
            elif what == "lost":
                self._answer(500, [], b"<Error><Code>InternalError</Code></Error>")
            elif what == "cut":
                self._answer(answer.status, answer.getheaders(), content, cut=True)
            else:
                self._answer(answer.status, answer.getheaders(), content)

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            sized = False
            for name, value in headers:
                if name.lower() in ("transfer-encoding", "connection"):
                    continue
                sized = sized or name.lower() == "content-length"
                self.send_header(name, value)
            if not sized:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self._hang_up()

        def _hang_up(self) -> None:
            self.wfile.flush()
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _do

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_arguments: object) -> None:
            """Whoever asked has gone."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        proxy.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
