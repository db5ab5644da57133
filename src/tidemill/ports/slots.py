"""Port `slots`: what a server keeps for those who follow its changes, for commands that look after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Slot:
    """A logical replication slot.

    Args:
        name: of it.
        plugin: what decodes.
        database: of which it tells changes.
        is_active: somebody reads it now.
        is_lost: the server has removed what it was to give.
        lsn: up to where its reader has confirmed.
        lag: bytes of the server's log that are kept for it; None: not known.
        left: bytes that the server may still write before it loses the slot, at or below zero: at its next checkpoint;
            None: no limit is set, or the slot is lost.
    """

    name: str
    plugin: str
    database: str
    is_active: bool
    is_lost: bool
    lsn: int
    lag: int | None
    left: int | None = None


class Slots(Protocol):
    """The slots of a server."""

    def listed(self) -> list[Slot]:
        """All of them. Raises Unreachable."""
        ...

    def drop(self, name: str) -> None:
        """Remove one that nobody reads. Raises UnknownName, Refused."""
        ...
