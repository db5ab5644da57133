"""Port `watch`: hears that something in folders of code has changed."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Tells that something in folders has changed, not what: whoever hears of it looks."""

    def fileno(self) -> int:
        """Becomes readable when something has changed."""
        ...

    def follow(self, folders: frozenset[str]) -> bool:
        """Watch these folders, without those in them, and no others. Returns whether one is watched only from now on:
        what happened in it before was not heard of.
        """
        ...

    def follows(self, folders: frozenset[str]) -> bool:
        """Whether all of these are watched: there may be too many."""
        ...

    def drain(self) -> bool:
        """Take what was told. Returns whether code may have changed."""
        ...

    def close(self) -> None:
        """Watch no more."""
        ...
