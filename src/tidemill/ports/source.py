"""Port `source`: where raw input comes from. It gives files as they are, or records; the archive keeps both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, TypeAlias, runtime_checkable

from tidemill.model.batch import Batch, Bookmark, Interval
from tidemill.model.pipeline import SourceSpec


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file to keep byte for byte: what it is called, and how to open it.

    `feed` is the one that it is for, where several are extracted at once; None: the one that was asked.
    """

    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]
    feed: str | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """Records to write to the archive: mappings from column to value, consumed once."""

    rows: Iterable[Mapping[str, Any]]


Piece: TypeAlias = "RawFile | Records"


@dataclass(frozen=True, slots=True)
class ExtractRequest:
    """What to extract: the batch (with its interval), or for bookmark sources where to go on.

    `until` is the upper end of the range where a re-run must stop; None: as far as there is. `feeds` are those that are
    extracted at once, the one that is asked included: their declarations by name.
    """

    batch: Batch
    bookmark: Bookmark = None
    until: Bookmark = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    feeds: Mapping[str, SourceSpec] = field(default_factory=dict)

    @property
    def interval(self) -> Interval | None:
        """The data interval."""
        return self.batch.key.interval


class Source(Protocol):
    """One feed.

    Promises: `extract` is called once per version of a batch's archive, never by replays; it yields pieces and, for
    bookmark sources, ends by returning the new bookmark (`bookmark_after`). Raising `Unreachable` makes the caller
    retry, any other error fails the task. An interval source gives the same data for the same interval as far
    as it can.
    """

    def extract(self, request: ExtractRequest) -> Extraction:
        """Begin extracting."""
        ...


@runtime_checkable
class Told(Protocol):
    """A source that has something to put away once a batch is published.

    Promises: nothing that it does here is needed for the batch to count, and the next `extract` makes up for what was
    not done. It may be told of a bookmark again, and of an older one.
    """

    def published(self, bookmark: Bookmark) -> None:
        """The batch that ends at `bookmark` is published. Whatever it raises is told, and changes nothing."""
        ...


class Extraction(AbstractContextManager["Extraction"], Protocol):
    """A running extraction."""

    def __iter__(self) -> Iterator[Piece]:
        """The pieces, in order."""
        ...

    @property
    def bookmark_after(self) -> Bookmark:
        """Where the next batch goes on; read after the last piece."""
        ...
