"""Topics as a user declares them, and where a stream's rows go: values that frames record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Literal

from tidemill.model.frame.operation import Expression, Operation

Absent = Literal["null", "error"]
OnIdle = Literal["wait", "clock"]


@dataclass(frozen=True, slots=True, eq=False)
class Topic:
    """A topic's rows, as a frame reads or writes them.

    Args:
        name: of the topic.
        columns: the columns of a message's value and their types ("long", "timestamp", ...).
        key: columns by whose values the topic is spread over partitions: rows with equal values are in one
            partition. Empty: nothing is known, or messages have no key.
        time: the column with the event time; None: the message's timestamp, which no column shows.
        lateness: how far behind the latest event time of its partition a row may be without being late.
        idle: how long a partition may be silent before the others go on without it; None: they wait.
        on_idle: when all are silent, event time can "wait", or go on with the "clock", so that windows close.
        partitions: how many, where Tidemill makes the topic.
        absent: what a column is that a message does not have: null, or the message is bad.
        codec: how values are written: "json", or a codec's description.
        retention: how long messages stay, where Tidemill makes the topic; None: for ever.
    """

    name: str
    columns: Mapping[str, Any] | None = None
    key: tuple[str, ...] = ()
    time: str | None = None
    lateness: timedelta = timedelta(0)
    idle: timedelta | None = timedelta(seconds=30)
    partitions: int = 1
    absent: Absent = "null"
    codec: Any = "json"
    retention: timedelta | None = None
    on_idle: OnIdle = "wait"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Sink(Operation):
    """Where rows go; they also go on, so that a frame can be written to several places."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ToTopic(Sink):
    """Each row as a message. With `chosen`, an expression says for each row to which topic; `topic` says how."""

    verb: ClassVar[str] = "to_topic"
    topic: Topic
    key: tuple[str, ...]
    chosen: Expression | None = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ToTable(Sink):
    """Rows into a table of the lake, a batch every few seconds. `options`: those of a table (key, write, order ...)."""

    verb: ClassVar[str] = "to_table"
    table: str
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ToFunction(Sink):
    """Rows to a user's object: `function(rows)` gets a list of dicts, and is done when it returns."""

    verb: ClassVar[str] = "sink"
    function: Callable[[Sequence[Mapping[str, Any]]], object]
