"""Topics as a user declares them, and where a stream's rows go: values that frames record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from tidemill.model.codec import Absent
from tidemill.model.expectation import Expectation, Severity
from tidemill.model.frame.operation import Expression, Operation
from tidemill.model.live import LiveSpec
from tidemill.model.table import WriteMode

OnIdle = Literal["wait", "clock"]
Cleanup = Literal["delete", "compact"]


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
        source: what feeds it; None: others write it.
        partitions: how many, where Tidemill makes the topic.
        absent: what a column is that a message does not have: null, or the message is bad.
        codec: how values are written: "json", or a codec's description.
        key_codec: how keys are written, which then have the columns of `key`; None: as text, and values have them.
        retention: how long messages stay, where Tidemill makes the topic; None: for ever.
        archive: raw messages are archived, a batch at the latest after this long; None: they are not.
        ahead: a message whose event time is so much later than its own timestamp is bad; None: it may be.
        checks: what its rows are expected to be, where a stream reads them.
        cleanup: where Tidemill makes the topic: "delete" removes what is older than `retention`, "compact" all but the
            newest message of each key.
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
    archive: timedelta | None = None
    ahead: timedelta | None = None
    source: LiveSpec | None = None
    checks: tuple[Expectation, ...] = ()
    cleanup: Cleanup = "delete"
    key_codec: Any = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Expect(Operation):
    """Checks of rows as they pass: what is declared for a topic or a stream (`of`), put where its rows are.

    A row that fails one of severity `error` goes no further; those of severity `warn` only count.
    """

    verb = "expect"
    of: str
    checks: tuple[Expectation, ...]

    @property
    def drops(self) -> bool:
        """Whether rows may end here."""
        return any(check.severity is Severity.ERROR for check in self.checks)

    def __str__(self) -> str:
        return f"{self.verb} of {self.of}: {', '.join(check.name for check in self.checks)}"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Sink(Operation):
    """Where rows go; they also go on, so that a frame can be written to several places."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ToTopic(Sink):
    """Each row as a message. With `chosen`, an expression says for each row to which topic; `topic` says how."""

    verb = "to_topic"
    topic: Topic
    key: tuple[str, ...]
    chosen: Expression | None = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Loaded(Sink):
    """Rows that wait in a topic of the stream's own until they are loaded, a batch every few seconds."""

    @property
    def place(self) -> str:
        """Where they go, as the topic's name and people tell it."""
        raise AttributeError("place")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ToTable(Loaded):
    """Rows into a table of the lake. `options`: those of a table (key, write, order ...)."""

    verb = "to_table"
    table: str
    options: Mapping[str, Any]

    @property
    def place(self) -> str:
        """The table."""
        return self.table


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ToDestination(Loaded):
    """Rows into a table of a database outside, by the name of a connection."""

    verb = "to"
    destination: str
    table: str
    write: WriteMode
    key: tuple[str, ...]
    order: str | None

    @property
    def place(self) -> str:
        """The connection and the table."""
        return f"{self.destination}.{self.table}"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ToFunction(Sink):
    """Rows to a user's object: `function(rows)` gets a list of dicts, and is done when it returns."""

    verb = "sink"
    function: Callable[[Sequence[Mapping[str, Any]]], object]
