"""What a declared source is: a value that says where input comes from. An adapter extracts by it.

Users make them by `from tidemill import sources`, and hand them to `Pipeline.source(...)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.model.pipeline import SourceKind


@dataclass(frozen=True, slots=True)
class Connector:
    """The base of declared sources. Each kind has one class of its own, beside the others of its technology."""

    @property
    def called(self) -> str | None:
        """The name of the table that it is loaded into, unless its user gives one; None: the user must."""
        return None

    @property
    def kind(self) -> SourceKind:
        """Whether it is asked for intervals, or goes on from a bookmark."""
        return SourceKind.INTERVAL

    @property
    def keeps_files(self) -> bool:
        """Whether the archive keeps what comes byte for byte; else it writes records, in a format of its own."""
        return False

    @property
    def decode(self) -> Mapping[str, Any]:
        """Options of the decoder that follow from what it is; those that its user gives count more."""
        return {}

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the feed that follow from what it is, `write` and `key` among them; its user's count more."""
        return {}

    @property
    def merges(self) -> bool:
        """Whether its load may write by key, or replace all; the tables of other feeds are appended to."""
        return False

    @property
    def together(self) -> object | None:
        """Feeds of a pipeline with equal values here, and not None, are extracted at once: the first brings all."""
        return None

    @property
    def columns_in(self) -> str | None:
        """The pattern of the parts with Singer's SCHEMA messages, which say the types of columns; None: none do."""
        return None

    @property
    def has_versions(self) -> bool:
        """Whether parts may be of a version, and end the rows of others, as Singer's ACTIVATE_VERSION does."""
        return False

    @property
    def marks_ended(self) -> bool:
        """Whether rows of versions that have ended stay in the table, marked with the time."""
        return False

    def __str__(self) -> str:
        """What lists and messages call it: the technology and what is read, without any secret."""
        return type(self).__name__.lower()
