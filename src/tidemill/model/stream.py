"""A stream as declared: the function, the topics and tables that it reads, and how it is to be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from tidemill.model.expectation import Expectation
from tidemill.model.frame.topic import Topic
from tidemill.model.table import TableName

Guarantee = Literal["at-least-once", "exactly-once"]
#: What becomes of a row that a step cannot take.
OnError = Literal["stop", "dead_letter", "skip"]
#: Verbs that can refuse one row, and reading a message (`decode`); sinks refuse what cannot be written. The others take
#: rows together: an error in an aggregate is no single row's, so it stops the stream.
ROW_BY_ROW = (
    "cast", "decode", "expect", "explode", "filter", "flat_map", "map_batches", "map_rows", "map_with_state", "reduce",
    "select", "to", "to_table", "to_topic", "unnest", "with_columns",
)  # fmt: skip
#: In `errors`: what becomes of a stream whose next messages were removed before it read them; "stop" or "skip".
LOST = "lost"


@dataclass(frozen=True, slots=True)
class TableBefore:
    """A table whose rows are a topic's past.

    Args:
        table: which.
        partition, offset: its columns that say which message a row was; empty: none does, and `until` is given.
        until: rows from before this time count, and of the topic's messages those that are not.
    """

    table: TableName
    partition: str = ""
    offset: str = ""
    until: datetime | None = None


#: What a stream's first start reads of a topic before what the topic still has.
Bootstrap: TypeAlias = "Literal['archive'] | TableBefore"


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream of a pipeline.

    Args:
        pipeline: whose.
        name: of the stream, in its pipeline.
        function: takes frames, returns frames.
        topics: by the function's parameter: what it reads.
        tables: by the function's parameter: whole tables that it joins.
        to: where rows of a frame go that the function gave no sink.
        guarantee: what a crash may do to results.
        every: a checkpoint at the latest after this long.
        errors: by verb: what becomes of rows that the step cannot take.
        place: in the user's file.
        doc: what it is for.
        bootstrap: by the function's parameter: what its first start reads before the topic.
        checks: what the rows of its result are expected to be.
    """

    pipeline: str
    name: str
    function: Callable[..., Any]
    topics: Mapping[str, Topic]
    tables: Mapping[str, TableName] = field(default_factory=dict)
    to: Topic | None = None
    guarantee: Guarantee = "exactly-once"
    every: timedelta = timedelta(seconds=1)
    errors: Mapping[str, OnError] = field(default_factory=dict)
    place: str = ""
    doc: str = ""
    bootstrap: Mapping[str, Bootstrap] = field(default_factory=dict)
    checks: tuple[Expectation, ...] = ()

    @property
    def full_name(self) -> str:
        """`<pipeline>.<name>`: of its group, and of its own topics."""
        return f"{self.pipeline}.{self.name}"
