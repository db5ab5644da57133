"""A client of the web API for tests, and the API's real server in a thread, on a free port of this computer."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from tidemill.ports.clock import Clock
from tidemill.web import server
from tidemill.web.app import Identify
from tidemill.web.backend import Backend
from tidemill.wiring.settings import Settings


@dataclass
class Answer:
    """What came back; `data` is its JSON, or its text."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.content) if "json" in self.headers.get("content-type", "") else self.content.decode()


class Api:
    """Asks a server, with a connection for each request.

    Args:
        url: of the server.
        patience: seconds that it may be silent.
    """

    def __init__(self, url: str, patience: float = 60) -> None:
        self.url = url
        self.patience = patience
        self._where = urlsplit(url).netloc

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **query: Any
    ) -> Answer:
        """Send a request; `body` is JSON unless it is bytes. A path without a leading / is one of the API."""
        path = path if path.startswith("/") else f"/api/v1/{path}"
        if query:
            path += "?" + urlencode(query, doseq=True)
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        given = {**({"Content-Type": "application/json"} if content is not None else {}), **(headers or {})}
        connection = http.client.HTTPConnection(self._where, timeout=self.patience)
        try:
            connection.request(method, path, content, {"Connection": "close", **given})
            found = connection.getresponse()
            return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a read that must succeed."""
        found = self.ask("GET", path, **query)
        assert found.status == 200, found
        return found.data

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None, **query: Any) -> Any:
        """The JSON of an action that must succeed."""
        found = self.ask("POST", path, body, headers, **query)
        assert found.status == 200, found
        return found.data

    @contextmanager
    def events(self, last: str | None = None, **query: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """Server-sent events, one after another: {"id", "event", "data"}."""
        connection = http.client.HTTPConnection(self._where, timeout=self.patience)
        path = "/api/v1/events" + (f"?{urlencode(query, doseq=True)}" if query else "")
        connection.request("GET", path, headers={"Last-Event-ID": last} if last else {})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        try:
            yield _events(response)
        finally:
            response.close()
            connection.close()


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    one: dict[str, Any] = {}
    for raw in response:
        line = raw.decode().rstrip("\n")
        if not line and "event" in one:
            yield {**one, "data": json.loads(one["data"])}
            one = {}
        name, _, value = line.partition(": ")
        if name in ("id", "event", "data"):
            one[name] = value


@contextmanager
def serving(settings: Settings, identify: Identify | None = None, clock: Clock | None = None) -> Iterator[Api]:
    """The API of a project, served until the end of the block."""
    settings = replace(settings, web=replace(settings.web, port=0))
    listening = server.listen(settings.web, "")
    mine, waker = os.pipe()
    stopping = threading.Event()
    backend = Backend(settings)
    backend.clock = clock or backend.clock
    given = (backend, listening, stopping.is_set, mine, identify)
    thread = threading.Thread(target=server.run, args=given, daemon=True)
    thread.start()
    try:
        yield Api(server.address_of(listening))
    finally:
        stopping.set()
        os.write(waker, b"!")
        thread.join(30)
        backend.close()
        listening.close()
        os.close(mine)
        os.close(waker)
    assert not thread.is_alive()
