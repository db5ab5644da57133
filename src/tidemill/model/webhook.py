"""What others POST as a source, as declared. Bodies wait in an inbox; each batch takes those that are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.model.connector import Connector
from tidemill.model.pipeline import SourceKind


@dataclass(frozen=True, slots=True)
class Webhook(Connector):
    """What is posted to `/feeds/<pipeline>/<source>`.

    Args:
        records: JSONPath of the records in a body; None: an array's elements, or the body itself.
        optional: a body without that place has no records; otherwise it is an error.
    """

    records: str | None = None
    optional: bool = False

    @property
    def kind(self) -> SourceKind:
        """The bookmark is the number of the last body that was taken."""
        return SourceKind.BOOKMARK

    @property
    def keeps_files(self) -> bool:
        """Bodies are kept as they came, a part for many."""
        return True

    @property
    def decode(self) -> Mapping[str, Any]:
        """Where the records are in what is kept."""
        optional = {"records_optional": True} if self.optional else {}
        return {"format": "jsonl", "records": self.records or "$", **optional}

    def __str__(self) -> str:
        return "webhook"
