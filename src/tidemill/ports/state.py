"""Port `state`: what stateful steps of a stream remember, a store for each task, on this computer's disk.

The store is a copy: the truth is in the topics that a checkpoint commits (offsets, and the changelog). A store says up
to which checkpoint it is good, so that recovery replays what it lacks, or begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol


class StateStore(Protocol):
    """Bytes by keys, for one task. One thread uses it.

    Promises:
      - `write` applies all of its changes and the mark, or nothing, also when the process or the machine dies.
      - `scan` gives keys in the order of their bytes, as of the last `write`.
      - Keys hold up to 64 KiB, values up to 1 GiB, memory does not grow with the number of keys (`memory` apart).
    """

    @property
    def mark(self) -> bytes | None:
        """What the last `write` said; None: nothing was written yet."""
        ...

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of these keys, None where there is none."""
        ...

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All keys that begin with `prefix`, with their values."""
        ...

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], mark: bytes) -> None:
        """Set values (None: remove the key). Of several changes of one key the last counts.

        Raises:
            Unreachable: the disk is full or gone; nothing was changed.
        """
        ...

    def size(self) -> int:
        """About how many bytes it takes."""
        ...

    def clear(self) -> None:
        """Remove everything, the mark, too."""
        ...

    def close(self) -> None:
        """Let it go; it can be opened again."""
        ...


class StateStores(Protocol):
    """The stores of a project on this computer."""

    def open(self, name: str) -> StateStore:
        """The store of that name (letters, digits, `-`, `_`, `.`, `/`), made on first use.

        Raises:
            Busy: another process has it open. DataError: what is there cannot be read; `remove` it and recover.
        """
        ...

    def names(self) -> list[str]:
        """All stores in order."""
        ...

    def remove(self, name: str) -> None:
        """Delete a store, if there is one. Raises Busy."""
        ...
