"""Batches and what they are made of: intervals, archive parts, manifests.

A batch is one execution's worth of data. It has one small integer id for life; attempts at it are numbered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import total_ordering
from typing import Any, TypeAlias

from tidemill.model.errors import DefinitionError

#: A source's bookmark: any JSON value that the source can order and resume from.
Bookmark: TypeAlias = "str | int | float | None | list[Any] | dict[str, Any]"


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """A data interval: from `start` up to but not including `end`, both aware.

    Compared by instants: Python compares two times of one zone by what the wall shows, which is the same twice when
    clocks go back.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise DefinitionError("A data interval needs times with a zone.", hint="datetime(..., tzinfo=UTC)")
        if self._instants[1] <= self._instants[0]:
            raise DefinitionError(f"The interval {self.start} .. {self.end} is empty or backwards.")

    @property
    def _instants(self) -> tuple[datetime, datetime]:
        return self.start.astimezone(UTC), self.end.astimezone(UTC)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interval) and self._instants == other._instants

    def __hash__(self) -> int:
        return hash(self._instants)

    def __lt__(self, other: Interval) -> bool:
        return self._instants < other._instants

    @property
    def length(self) -> timedelta:
        """How much time passes: 23 hours for a day on which clocks go forward."""
        return self._instants[1] - self._instants[0]

    def overlaps(self, other: Interval) -> bool:
        """True where the two share an instant."""
        (start, end), (others_start, others_end) = self._instants, other._instants
        return start < others_end and others_start < end

    @property
    def ds(self) -> str:
        """The start's date, as `YYYY-MM-DD` in the interval's own zone."""
        return self.start.strftime("%Y-%m-%d")

    def __str__(self) -> str:
        if (self.start.hour, self.start.minute, self.end.hour, self.end.minute) == (0, 0, 0, 0):
            days = (self.end.date() - self.start.date()).days
            return self.ds if days == 1 else f"{self.ds}..{self.end:%Y-%m-%d}"
        return f"{self.start:%Y-%m-%dT%H:%M}..{self.end:%Y-%m-%dT%H:%M}"


#: Before a topic's name, in what stands for the pipeline of its batches: no pipeline has a dot in its name.
_OWNER = "topic."


def owner_of(topic: str) -> str:
    """What stands for the pipeline in batches of a topic's raw messages."""
    return _OWNER + topic


def topic_of(pipeline: str) -> str | None:
    """The topic whose raw messages the batches of this "pipeline" are; None: it is a pipeline."""
    return pipeline.removeprefix(_OWNER) if pipeline.startswith(_OWNER) else None


class BatchState(StrEnum):
    """Where a batch stands, seen from `main`."""

    #: No attempt has published it.
    OPEN = "open"
    #: Its rows are on `main`.
    PUBLISHED = "published"
    #: It was on `main` and was undone by `branch revert`.
    REVERTED = "reverted"
    #: A later batch of the same bookmark chain took its range, or went on in its place; it may never publish.
    ABSORBED = "absorbed"


_S = BatchState
#: Which state may follow which. A published batch that publishes again (a re-run) keeps its state.
BATCH_TRANSITIONS: Mapping[BatchState, frozenset[BatchState]] = {
    _S.OPEN: frozenset({_S.PUBLISHED, _S.ABSORBED}),
    _S.PUBLISHED: frozenset({_S.REVERTED}),
    _S.REVERTED: frozenset({_S.PUBLISHED}),
    _S.ABSORBED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class BatchKey:
    """What makes a batch unique (rule 1): its interval, or a run key where there is none."""

    pipeline: str
    interval: Interval | None = None
    run_key: str | None = None

    def __post_init__(self) -> None:
        if (self.interval is None) == (self.run_key is None):
            raise DefinitionError("A batch has either an interval or a run key.")

    def __str__(self) -> str:
        return f"{self.pipeline} {self.interval or self.run_key}"


@dataclass(frozen=True, slots=True)
class Batch:
    """The record of a batch."""

    id: int
    key: BatchKey
    state: BatchState
    created_at: datetime
    extracted_at: datetime | None = None
    archived_at: datetime | None = None
    loaded_at: datetime | None = None
    published_at: datetime | None = None
    code_version: str | None = None

    @property
    def pipeline(self) -> str:
        """The pipeline that the batch belongs to."""
        return self.key.pipeline

    @property
    def took_nothing(self) -> bool:
        """True where no source was read to its end: nothing is archived, and no range is the batch's own (rule 6)."""
        return self.extracted_at is None

    @property
    def order(self) -> datetime:
        """What ranks the batch among others of its pipeline: the interval's end, or its creation."""
        return self.key.interval.end if self.key.interval else self.created_at


@dataclass(frozen=True, slots=True)
class Part:
    """One archived file: raw bytes as received, or records in the archive's own format.

    `path` is relative to the archive's root. `name` is what the source called it. `sha256` and `bytes` are those of the
    content, whether the archive is encrypted or not.
    """

    path: str
    name: str
    sha256: str
    bytes: int
    #: Number of records where the archive wrote them itself; None for raw files.
    rows: int | None = None
    #: csv, jsonl, avro, parquet.
    format: str | None = None
    #: gzip, zstd, bzip2, or None.
    compression: str | None = None
    #: The name and the id of the key that encrypts it, `archive-key/3fa9...`; None: it is not encrypted.
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What the first load found in the parts of an extraction: raw files are counted by reading them.

    Args:
        rows: rows that fitted the table.
        rejected: rows that went to quarantine.
        columns: the table's columns and types after the load, by child suffix; "" is the table itself.
        parts: rows of each part in the manifest's order, rejected ones included; None where the decoder did not tell.
        options: how the parts were decoded.
        loaded_at: when.
        code_version: by which code.
    """

    rows: int
    rejected: int
    columns: Mapping[str, Mapping[str, str]]
    parts: tuple[int | None, ...]
    options: Mapping[str, Any]
    loaded_at: datetime
    code_version: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one extraction of one source for one batch put into the archive. Written last; never rewritten.

    `version` counts extractions: 1 at first, one more for each `--refetch`. `contents` is known from the first load on.
    """

    batch_id: int
    pipeline: str
    source: str
    version: int
    attempt: int
    parts: tuple[Part, ...]
    extracted_at: datetime
    code_version: str | None = None
    interval: Interval | None = None
    bookmark_before: Bookmark = None
    bookmark_after: Bookmark = None
    contents: Contents | None = None

    @property
    def schema(self) -> Mapping[str, str]:
        """The table's columns and types, once the parts have been loaded; empty before."""
        return self.contents.columns.get("", {}) if self.contents else {}

    @property
    def bytes(self) -> int:
        """Archived bytes, all parts together."""
        return sum(p.bytes for p in self.parts)

    @property
    def rows(self) -> int | None:
        """Records: known at once where the archive wrote them, and from the first load on for raw files."""
        if self.contents is not None:
            return self.contents.rows + self.contents.rejected
        counts = [p.rows for p in self.parts]
        return None if any(c is None for c in counts) else sum(c for c in counts if c is not None)

    def described(self, contents: Contents) -> Manifest:
        """The manifest with what a load has found: parts that did not know their rows do now, if it told them."""
        parts = self.parts
        if len(contents.parts) == len(parts):
            found = zip(parts, contents.parts, strict=True)
            parts = tuple(replace(p, rows=rows) if p.rows is None else p for p, rows in found)
        return replace(self, parts=parts, contents=contents)


def contents_to_json(contents: Contents | None) -> dict[str, Any]:
    """`contents` as the archive's file and the index keep it; an empty object where nothing is known."""
    if contents is None:
        return {}
    return {
        "rows": contents.rows,
        "rejected": contents.rejected,
        "columns": {child: dict(columns) for child, columns in contents.columns.items()},
        "parts": list(contents.parts),
        "options": dict(contents.options),
        "loaded_at": contents.loaded_at.isoformat(),
        "code_version": contents.code_version,
    }


def contents_from_json(data: Mapping[str, Any]) -> Contents | None:
    """The inverse of `contents_to_json`."""
    if not data:
        return None
    return Contents(
        rows=data["rows"],
        rejected=data["rejected"],
        columns=data["columns"],
        parts=tuple(data["parts"]),
        options=data["options"],
        loaded_at=datetime.fromisoformat(data["loaded_at"]),
        code_version=data["code_version"],
    )


def utc(value: datetime) -> datetime:
    """`value` in UTC; naive times are refused."""
    if value.tzinfo is None:
        raise DefinitionError(f"The time {value} has no zone.")
    return value.astimezone(UTC)
