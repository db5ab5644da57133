"""Port `state`: what stateful steps of a stream remember, a store for each task, on this computer's disk.

The store is a copy: the truth is in the topics that a checkpoint commits (offsets, and the changelog). A store says up
to which checkpoint it is good, so that recovery replays what it lacks, or begins anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from tidemill.model.errors import Refused

_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
#: Characters of a name; with a suffix it still fits in the 255 that file systems allow.
LONGEST_NAME = 200


def check_name(name: str) -> str:
    """Give back a store's name. Raises Refused for one that is none."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise Refused(
            f'"{name}" is no name of a state store.', hint=f"letters, digits, - _ . / ; at most {LONGEST_NAME} of them"
        )
    return name


def after(prefix: bytes) -> bytes | None:
    """The first key behind all that begin with `prefix`; None: there is none."""
    shorter = prefix.rstrip(b"\xff")
    return shorter[:-1] + bytes([shorter[-1] + 1]) if shorter else None


class StateStore(Protocol):
    """Bytes by keys, for one task. One thread uses it.

    Promises:
      - `write` applies all of its changes and the mark, or nothing, also when the process or the machine dies.
      - After the death of the process the last `write` is there. After that of the machine the store may be as it
        was after an earlier one, of which its mark tells: recovery replays what is missing, so no `write` waits for
        the disk.
      - `scan` gives keys in the order of their bytes, as of the last `write`; it is finished before the next one.
      - Keys hold up to 64 KiB, values up to 64 MiB, memory does not grow with the number of keys (`memory` apart).

    Raises:
        DataError: from every method: what is on the disk is damaged; `StateStores.remove` it and recover.
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
            Unreachable: the disk is full or gone; nothing was changed, and the store can be used again once there
                is room.
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
