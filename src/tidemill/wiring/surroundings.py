"""What tasks reach in a worker: xcoms of the database, large values in the archive, variables of the environment.

Everything is opened when it is first asked for: a task that asks for nothing costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tidemill.model.graph import WHOLE
from tidemill.ports.files import Files
from tidemill.ports.metadata import Metadata
from tidemill.ports.xcoms import RETURNED

VARIABLE, CONNECTION = "TIDEMILL_VAR_", "TIDEMILL_CONN_"
_BIG = "xcoms/"
#: A name with one of these in it is that of a secret.
_SECRET = ("PASSWORD", "SECRET", "TOKEN", "API_KEY", "PRIVATE_KEY", "AUTHORIZATION")


class StoredXComs:
    """Port `xcoms` on the metadata database, a transaction for each call."""

    def __init__(self, metadata: Callable[[], Metadata]) -> None:
        self._metadata = metadata

    def get(self, run_id: int, task: str, key: str = RETURNED, map_index: int = WHOLE) -> str | None:
        """One value."""
        with self._metadata().read() as tx:
            return tx.xcoms.get(run_id, task, key, map_index)

    def all(self, run_id: int, task: str, key: str = RETURNED) -> list[tuple[int, str]]:
        """The values of every instance of a mapped task."""
        with self._metadata().read() as tx:
            return tx.xcoms.all(run_id, task, key)

    def count(self, run_id: int, task: str, key: str = RETURNED) -> int:
        """How many instances of a mapped task have a value."""
        with self._metadata().read() as tx:
            return tx.xcoms.count(run_id, task, key)

    def nth(self, run_id: int, task: str, at: int, key: str = RETURNED) -> str | None:
        """One of the values of a mapped task's instances."""
        with self._metadata().read() as tx:
            return tx.xcoms.nth(run_id, task, at, key)

    def clear(self, run_id: int, task: str, map_index: int | None = None) -> None:
        """Forget what a task handed over."""
        with self._metadata().write() as tx:
            tx.xcoms.clear(run_id, task, map_index)

    def put(self, run_id: int, task: str, map_index: int, values: Iterable[tuple[str, str]]) -> None:
        """Keep keys and values."""
        with self._metadata().write() as tx:
            tx.xcoms.put(run_id, task, map_index, values)


class ArchivedValues:
    """Port `BigValues`: values too large for the database, in the archive's files. The same content is kept once."""

    def __init__(self, files: Callable[[], Files]) -> None:
        self._files = files

    def put(self, name: str, content: bytes) -> str:
        """Keep a content; returns its address."""
        path = _BIG + name
        try:
            with self._files().create(path) as stream:
                stream.write(content)
        except FileExistsError:
            pass  # its name tells its content
        return path

    def get(self, address: str) -> bytes:
        """The content of an address."""
        with self._files().open(address) as stream:
            return stream.read()


class EnvironmentVariables:
    """Port `Variables`: `TIDEMILL_VAR_NAME`."""

    def get(self, name: str) -> str | None:
        """The text of a variable."""
        return os.environ.get(VARIABLE + name.upper())


class EnvironmentConnections:
    """Port `Connections`: `TIDEMILL_CONN_NAME`, an address such as `postgresql://me:secret@host:5432/shop?sslmode=on`."""

    def get(self, name: str) -> Mapping[str, Any] | None:
        """Parts of a connection."""
        text = os.environ.get(CONNECTION + name.upper())
        return None if text is None else connection_of(name, text)


def connection_of(name: str, address: str) -> Mapping[str, Any]:
    """The parts of a connection, of its address."""
    parts = urlsplit(address)
    hosts = parts.netloc.rpartition("@")[2]
    # Several servers stay one text: `kafka://one:9092,two:9092`.
    host, port = (hosts, None) if "," in hosts else (parts.hostname or "", parts.port)
    return {
        "conn_id": name,
        "conn_type": parts.scheme,
        "host": host,
        "port": port,
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "schema": unquote(parts.path.removeprefix("/")),
        "extra": dict(parse_qsl(parts.query)),
    }


def secrets(environment: Mapping[str, str] | None = None) -> list[str]:
    """Values that logs must not show: passwords of connections, and variables whose names tell that they are secret."""
    env = os.environ if environment is None else environment
    found = []
    for name, value in env.items():
        if name.startswith(CONNECTION):
            found += [value, unquote(urlsplit(value).password or ""), *_in_query(value)]
        elif _is_secret(name):
            found.append(value)
    return [value for value in found if value]


def _in_query(url: str) -> list[str]:
    """Values in the query of a connection that are secret: `?api_key=...`, `?Authorization=Bearer ...`."""
    return [value for name, value in parse_qsl(urlsplit(url).query) if _is_secret(name)]


def _is_secret(name: str) -> bool:
    wide = name.upper().replace("-", "_")
    return any(word in wide for word in _SECRET)
