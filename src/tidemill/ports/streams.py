"""Port `streams`: a part of the metadata store. What processes of streams tell of themselves, for people and pages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol


class Streams(Protocol):
    """The newest facts of each process. Nothing goes by them: they are shown."""

    def tell(self, stream: str, process: str, at: datetime, facts: Mapping[str, Any]) -> None:
        """Replace what a process has told of its part in a stream; `facts` are JSON."""
        ...

    def told(self, stream: str | None = None) -> list[Mapping[str, Any]]:
        """The facts of one stream's processes, or of all, in the order of their names."""
        ...

    def forget(self, stream: str, process: str) -> None:
        """A process has ended: nothing is known of it any more."""
        ...

    def forget_before(self, at: datetime) -> None:
        """Forget processes that have told nothing since a time."""
        ...
