"""Port `arrivals`: what has come since a pipeline that waits for things last ran: assets published, files seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol


class Arrivals(Protocol):
    """Names by pipeline, each with a stamp by which a change shows."""

    def of(self, pipeline: str) -> Mapping[str, str]:
        """Names and stamps that are noted."""
        ...

    def note(self, pipeline: str, arrived: Mapping[str, str], now: datetime) -> None:
        """Note names; a name that is there gets the newer stamp."""
        ...

    def forget(self, pipeline: str, names: Iterable[str]) -> None:
        """They have been acted on."""
        ...
