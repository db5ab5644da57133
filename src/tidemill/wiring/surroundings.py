"""What tasks reach in a worker: xcoms of the database, large values in the archive.

Everything is opened when it is first asked for: a task that asks for nothing costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tidemill.model.graph import WHOLE
from tidemill.ports.files import Files
from tidemill.ports.metadata import Metadata
from tidemill.ports.xcoms import RETURNED

_BIG = "xcoms/"


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
