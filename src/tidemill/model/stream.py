"""A stream as declared: the function, the topics and tables that it reads, and how it is to be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from tidemill.model.frame.topic import Topic
from tidemill.model.table import TableName

Guarantee = Literal["at-least-once", "exactly-once"]
#: What becomes of a row that a step cannot take.
OnError = Literal["stop", "dead_letter", "skip"]


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

    @property
    def full_name(self) -> str:
        """`<pipeline>.<name>`: of its group, and of its own topics."""
        return f"{self.pipeline}.{self.name}"
