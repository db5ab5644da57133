"""Port `destination`: stores outside that rows are loaded into, each load exactly once: databases, files, topics.

Whoever loads has a name there and a position: how far it has come. The position moves in the transaction of the rows,
in the destination itself, so a load is there with its position or not at all, whatever dies when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tidemill.model.errors import Conflict, Refused, Unreachable
from tidemill.model.table import Schema, WriteMode


@dataclass(frozen=True, slots=True)
class TableLoad:
    """Rows for one table.

    Args:
        table: `name` or `schema.name`; both are made if they are missing.
        columns: of the rows.
        rows: Arrow record batches of these columns, consumed once.
        write: `append` adds rows. `upsert` keeps one row of each key: that with the greatest `order`, of equal ones
            the last. `replace` leaves no other rows.
        key: columns that identify a row; their values are not null.
        order: the column that ranks rows of a key; None: later rows are newer.
        batches: rows whose `_batch_id` is one of these go before others come.
        gone: Arrow record batches of the key's columns, consumed once: rows of these keys go before others come.
        mirror: the table holds what its source loads and nothing else. Where `replace` finds columns that cannot take
            the rows, it is made anew.
        first: its source has never loaded it, so rows in it are somebody else's.
        options: how it is to be there, where a destination has a choice; what a destination does not know is refused.
        kept: the table's schema is kept as revisions (`schemas.py`): it is neither made nor altered.
    """

    table: str
    columns: Schema
    rows: Iterable[Any]
    write: WriteMode = WriteMode.APPEND
    key: tuple[str, ...] = ()
    order: str | None = None
    batches: tuple[int, ...] = ()
    gone: Iterable[Any] = ()
    mirror: bool = False
    first: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What is loaded together.

    Args:
        source: the name of whoever loads.
        before: its position, which must still hold; None: it has none yet.
        after: its position from then on; short text.
        tables: all or none of them are there afterwards.
    """

    source: str
    before: str | None
    after: str
    tables: Sequence[TableLoad]


class MirrorLost(Conflict):
    """A table that is a mirror, and has rows by its position, is not there."""

    def __init__(self, table: str) -> None:
        super().__init__(f'"{table}" is not there any more: somebody has dropped it.')
        self.table = table


class NoRoom(Unreachable):
    """The store's disk is full. Nothing of the load is there, and the same load can succeed when there is room.

    Args:
        store: which, and where: what a user would look for.
        said: what the store says.
    """

    def __init__(self, store: str, said: object) -> None:
        super().__init__(
            f"{store} has no room left: {' '.join(str(said).split()).rstrip('.')}.",
            hint="make room there; nothing of this load is there, and it will be tried again",
        )


class Destination(Protocol):
    """One store.

    Promises: `load` is one transaction. Of two loads with the same source and `before` one is done. Missing tables
    and columns are made, types are widened where that loses nothing; columns that only the table has get null.

    Raises:
        Unreachable: the store does not answer; whether a load was done, `position` tells. NoRoom: it has no room, and
            the load was not done. SettingsError: its login or its driver is wrong.
    """

    #: Whether it can change single rows by their keys (`upsert`, `gone`); else such a table is replaced as a whole.
    by_key: bool

    def position(self, source: str) -> str | None:
        """How far a source has come; None: it has never loaded anything."""
        ...

    def load(self, load: Load) -> int:
        """Load tables; gives the number of rows.

        Raises:
            Conflict: the position is another one; nothing is done. MirrorLost: likewise, as there is no table where
            `mirror` says that one is, and not all its rows come. ContractError: a column cannot take such values,
            or a key is null. DataError: the store refuses a value. Refused: `first`, and the table has rows.
            Unfit: `kept`, and the table is missing, or cannot take the rows as it is.
            DefinitionError: an option or a name that it does not know.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Unfit(Refused):
    """A table cannot take its rows as it is, and must not be altered by a load: its schema is kept as revisions."""

    def __init__(self, table: str, lacks: Sequence[str]) -> None:
        told = "; ".join(lacks)
        super().__init__(f'"{table}" cannot take what is delivered, and no revision makes it: {told}')
        self.table = table


def may_change(load_kept: bool, table: str, statements: Sequence[str]) -> None:
    """Raise Unfit where a load would alter a table whose schema is kept as revisions."""
    if load_kept and statements:
        raise Unfit(table, statements)
