"""What programs over topics are made of: steps on a frame, and as the naive implementation does them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.naive import Lines
from tidemill.model.frame import Frame

#: Verbs as pairs of them are counted. `filter_rows`, `unique_within` and `join_table` are `filter`, `unique` and `join`
#: in their other use; `sql` is a query over rows, or over windows.
STATELESS = (
    "select", "with_columns", "filter", "filter_rows", "rename", "drop", "cast", "explode", "unnest", "map_rows",
    "flat_map", "map_batches", "join_table", "join_lookup", "concat", "sql",
)  # fmt: skip
TIMED = (
    "tumbling_window", "hopping_window", "sliding_window", "session_window", "join_asof", "join_interval",
    "unique_within", "map_with_state",
)  # fmt: skip
VERBS = (*STATELESS, *TIMED, "group_by", "count_window", "unique", "reduce")
#: What gives results again when they change: at the end of a program, or before one of those that may follow them.
CHANGING = ("group_by", "reduce", "unique_last", "window_current")
AFTER_CHANGES = ("select", "with_columns", "rename", "drop", "cast", "unnest", "join_lookup")


@dataclass(frozen=True)
class Kinds:
    """What is known of the rows at a place of a program.

    Args:
        columns: kinds by name: "text", "int", "float", "list", "struct".
        key, time: names of the key's column and of the time's (None: there is none any more).
        mixed: rows of several frames are side by side, or some have no place: tables order them otherwise.
        alone: rows of an outer join are among them, which have no place in the order.
        changing: the columns that identify a result which is given again.
        sessions: whether earlier results of a session that grows stay behind.
        sure: whether a table gives the same rows, too.
    """

    columns: Mapping[str, str]
    key: str = "k"
    time: str | None = "t"
    mixed: bool = False
    alone: bool = False
    changing: tuple[str, ...] | None = None
    sessions: bool = False
    sure: bool = True
    #: Whether times are made of rows that are given here, and whether those that mark the end may be missing.
    stamped: bool = False
    thin: bool = False
    counted: bool = False
    #: Whether a user's function has made a column of unknown type: steps that keep rows cannot follow.
    typeless: bool = False
    #: Whether rows of one partition came together by two ways: times cannot be made then.
    doubled: bool = False
    #: How many names have been made up.
    fresh: int = 0

    def of(self, kind: str) -> list[str]:
        """Columns of a kind."""
        return [name for name, found in self.columns.items() if found == kind]

    @property
    def numbers(self) -> list[str]:
        """Columns that can be added up."""
        return [name for name, kind in self.columns.items() if kind in ("int", "float") and name != "i"]


@dataclass
class World:
    """What programs read besides their first topic, and what was late on the way.

    Args:
        other: frame of the second topic. `table`, `doubled`: of tables, with one row or several for a key.
    """

    other: Any
    table: Any
    doubled: Any
    streams: bool = True
    #: Late rows by the path of steps that they were late for.
    late: dict[int, Lines] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Step:
    """A step: on frames, and on rows. `kinds` are those of its result."""

    verb: str
    on_frame: Callable[[Frame, World], Frame]
    on_lines: Callable[[Lines, World, Lines], Lines]
    kinds: Kinds

    def lines(self, lines: Lines, world: World) -> Lines:
        """What comes of rows; late ones are noted."""
        late: Lines = []
        made = self.on_lines(lines, world, late)
        world.late[id(self)] = late
        return made


class Absent(Exception):
    """A verb cannot be written here: what it needs is not there."""
