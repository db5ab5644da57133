"""Port `state` in memory, for tests and for streams that may read their changelog anew at each start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tidemill.model.errors import Busy
from tidemill.ports.state import check_name


class MemoryState:
    """Keys in a dictionary; they are sorted when they are scanned."""

    def __init__(self) -> None:
        self.opened = False
        self._mark: bytes | None = None
        self._values: dict[bytes, bytes] = {}

    @property
    def mark(self) -> bytes | None:
        """What the last `write` said."""
        return self._mark

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of these keys."""
        return list(map(self._values.get, keys))

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All keys that begin with `prefix`, with their values."""
        for key in sorted(key for key in self._values if key.startswith(prefix)):
            yield key, self._values[key]

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], mark: bytes) -> None:
        """Set values, and remove those of None."""
        # All of them first: where `changes` itself fails, nothing was changed.
        for key, value in dict(changes).items():
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        self._mark = mark

    def size(self) -> int:
        """About how many bytes it takes: 130 are Python's own for a key and its value."""
        return sum(len(key) + len(value) + 130 for key, value in self._values.items())

    def clear(self) -> None:
        """Remove everything."""
        self._values.clear()
        self._mark = None

    def close(self) -> None:
        """Let it go; its keys stay for whoever opens it again."""
        self.opened = False


class MemoryStates:
    """Stores of one process; they outlive their being closed, and end with this object."""

    def __init__(self) -> None:
        self._stores: dict[str, MemoryState] = {}

    def open(self, name: str) -> MemoryState:
        """The store of that name."""
        store = self._stores.setdefault(check_name(name), MemoryState())
        self._see_free(name)
        store.opened = True
        return store

    def names(self) -> list[str]:
        """All stores in order."""
        return sorted(self._stores)

    def remove(self, name: str) -> None:
        """Delete a store, if there is one."""
        self._see_free(check_name(name))
        self._stores.pop(name, None)

    def _see_free(self, name: str) -> None:
        if name in self._stores and self._stores[name].opened:
            raise Busy(f'The state "{name}" is in use.')
