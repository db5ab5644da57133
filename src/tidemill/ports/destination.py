"""Port `destination`: databases outside that batches of rows are loaded into, each batch exactly once.

Whoever loads has a name there and a position: how far it has come. The position moves in the transaction of the rows,
in the destination itself, so a batch is there with its position or not at all, whatever dies when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
    """

    table: str
    columns: Schema
    rows: Iterable[Any]
    write: WriteMode = WriteMode.APPEND
    key: tuple[str, ...] = ()
    order: str | None = None


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


class Destination(Protocol):
    """One database.

    Promises: `load` is one transaction. Of two loads with the same source and `before` one is done. Missing tables
    and columns are made, types are widened where that loses nothing; columns that only the table has get null.

    Raises:
        Unreachable: the database does not answer; whether a load was done, `position` tells. SettingsError: its
            login or its driver is wrong.
    """

    def position(self, source: str) -> str | None:
        """How far a source has come; None: it has never loaded anything."""
        ...

    def load(self, load: Load) -> int:
        """Load tables; gives the number of rows.

        Raises:
            Conflict: the position is another one; nothing is done. ContractError: a column cannot take such values,
            or a key is null. DataError: the database refuses a value.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
