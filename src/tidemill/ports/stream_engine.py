"""Port `stream engine`: what the tasks of a stream's stages do with rows. Reading, writing and committing are others'.

A task is fed with stretches of its inputs and gives out what follows from them. Promises:

  - However the input is cut into stretches, and wherever a task is saved and made again, what it gives out in all is
    the same (results of windows that change, and of groups: their last state is).
  - A row that a user's function or an expression cannot take is given back as a `Failure`; the others go on.
  - A row that is late for what it belongs to is given back as late.
  - A row that fails a check of severity `error` is given back as a `Failure` with the names of the checks that it
    failed, and goes no further. What all checks have found is told, each row once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from tidemill.model.frame import Frame
from tidemill.plan.topology import Topology

if TYPE_CHECKING:
    import polars

#: A frame that is looked up, run anew: its rows, of the newest version.
LookUp: TypeAlias = "Callable[[], polars.DataFrame]"


class Keeper(Protocol):
    """Where a task's steps keep what they remember. What is put counts with the next checkpoint."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values, None where there is none."""
        ...

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin so, with their values, in order."""
        ...

    def put(self, key: bytes, value: bytes | None) -> None:
        """Set a value; None removes the key."""
        ...


class Place(NamedTuple):
    """Where stamps are made: a node, and one of the lanes whose rows come there."""

    node: int
    lane: int


@dataclass(frozen=True, slots=True)
class Given:
    """Rows that came out at a sink: its node, and the rows with the user's columns."""

    node: int
    rows: polars.DataFrame


@dataclass(frozen=True, slots=True)
class Block:
    """Rows, and how far their lanes have come, for one task of an exchange's stage."""

    exchange: int
    task: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that could not be taken.

    Args:
        node: where.
        source, offset: the message that it came of; None behind a stateful step.
        error: what happened, as text, with the user's line.
        row: its values.
        checks: those that it failed; empty: it could not be taken at all.
    """

    node: int
    source: int | None
    offset: int | None
    error: str
    row: Mapping[str, Any]
    checks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """What the checks of a node have found: by check, in their order, rows that were looked at and rows that failed."""

    node: int
    counts: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Outcome:
    """What followed from what a task was fed with."""

    given: list[Given] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    #: Late rows, by the node that would have taken them.
    late: list[Given] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)


class StreamTask(Protocol):
    """One task of a stage."""

    def feed(self, source: int, rows: polars.DataFrame, offsets: Sequence[int], timestamps: Sequence[int]) -> None:
        """Take a stretch of a topic's partition.

        Args:
            source: the source's node.
            rows: the messages' values.
            offsets: of each row, ascending.
            timestamps: of each row, milliseconds.
        """
        ...

    def receive(self, exchange: int, data: bytes) -> None:
        """Take a block that another stage's task has sent."""
        ...

    def places(self) -> Mapping[Place, Mapping[int, int | None]]:
        """Where stamps are made: how far each lane there has come, in microseconds by stamp; None: nobody knows yet."""
        ...

    def spoke(self) -> set[Place]:
        """The places that rows have come to since the last call."""
        ...

    def idle(self, place: Place, upto: Mapping[int, int]) -> bool:
        """A lane is silent at a place: let its time go on, by stamp. Rows that come after all are judged by it.

        False: that is no news.
        """
        ...

    def take(self) -> Outcome:
        """What has followed since the last call."""
        ...

    def save(self) -> None:
        """Put into the keeper what has changed since the last call."""
        ...

    def watermark(self, node: int) -> int | None:
        """How far a node's event time has come, in microseconds; None: nowhere yet, or it goes by none."""
        ...

    def open_windows(self) -> int | None:
        """How many windows are open, one for each key; None: there are none, or rows are kept instead of windows."""
        ...


class StreamEngine(Protocol):
    """Makes tasks."""

    def pack(self, rows: polars.DataFrame) -> bytes:
        """Rows as bytes, for a message of Tidemill's own."""
        ...

    def unpack(self, pieces: Sequence[bytes]) -> polars.DataFrame:
        """The rows of what `pack` gave, one piece after the other; a column that a piece lacks is null."""
        ...

    def told(self, rows: polars.DataFrame) -> list[dict[str, Any]]:
        """Rows as dicts, to be shown; a time that no calendar has is in microseconds since 1970."""
        ...

    def split(self, rows: polars.DataFrame, by: Any) -> Mapping[str | None, polars.DataFrame]:
        """Rows by the text that an expression gives for each."""
        ...

    def columns_of(self, frame: Frame) -> Sequence[str] | None:
        """The columns that a frame over topics and tables gives; None: a user's function decides.

        Raises:
            UserError: a step names a column that is not there, or does what its type cannot.
        """
        ...

    def task(
        self, topology: Topology, stage: int, number: int, keeper: Keeper, lookups: Mapping[int, LookUp]
    ) -> StreamTask:
        """Make a task, with what its keeper knows.

        Args:
            topology: the plan.
            stage: which part of it.
            number: of the partition.
            keeper: the task's own.
            lookups: by node: the tables that are joined.
        """
        ...
