"""Changes of a PostgreSQL database as a source: which tables, by which slot and publication. Values only.

What it gives is a log: a table of transactions, and for each followed table one of its changes, with the columns below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.model.connector import Connector
from tidemill.model.databases import database_shown
from tidemill.model.errors import DataError
from tidemill.model.pipeline import SourceKind
from tidemill.model.table import WriteMode

#: What happened: `r` was there when the snapshot was taken, `i` insert, `u` update, `d` delete, `t` truncate.
OP = "_op"
#: Where the transaction's commit is in the server's log.
LSN = "_lsn"
#: Number of the change in its transaction, from 0; -1: the truncate with which a second snapshot begins.
SEQUENCE = "_seq"
#: The transaction; null for the snapshot.
XID = "_xid"
#: When it was committed; never before the transaction that came before it.
COMMITTED_AT = "_committed_at"
#: Columns whose values were not sent, because they are large and did not change.
UNCHANGED = "_unchanged"
#: Of the rows that a table is made of: the row is gone.
GONE = "_gone"
#: Of the table of transactions: how many changes each has.
CHANGES = "changes"
#: The columns of a log, apart from the followed table's own.
LOG_COLUMNS = (OP, LSN, SEQUENCE, XID, COMMITTED_AT, UNCHANGED)

#: What a slot is called until the batch of its snapshot is published.
NEW_SLOT = "_new"


@dataclass(frozen=True, slots=True)
class FollowedTable:
    """A table that is followed.

    Args:
        name: `schema.table`.
        called: what it is called here.
        key: the columns that tell its rows apart; none: only its log is kept.
        write: how its state is kept: upsert, history, or append for the log alone.
    """

    name: str
    called: str
    key: tuple[str, ...]
    write: WriteMode


@dataclass(frozen=True, slots=True)
class Cdc(Connector):
    """Changes of tables of a database.

    Args:
        connection: the name of a connection, or an address.
        tables: those that are followed.
        slot: the replication slot.
        publication: what is published.
        name: of the feed, whose table has the transactions.
        max_changes: about how many messages a batch takes.
        parallel: connections that read the snapshot.
        chunk_rows: rows that one of them reads at a time.
        place: where in the user's file.
    """

    connection: str = field(repr=False)
    tables: tuple[FollowedTable, ...]
    slot: str
    publication: str
    name: str = "changes"
    max_changes: int = 2_000_000
    parallel: int = 1
    chunk_rows: int = 250_000
    place: str = ""

    @property
    def called(self) -> str | None:
        """See `Connector`."""
        return self.name

    @property
    def kind(self) -> SourceKind:
        """It goes on from a bookmark."""
        return SourceKind.BOOKMARK

    @property
    def keeps_files(self) -> bool:
        """Changes are archived decoded, as Parquet: a replay needs no server."""
        return True

    @property
    def decode(self) -> Mapping[str, Any]:
        """Each followed table has parts of its own."""
        return {"children": tuple(table.called for table in self.tables)}

    @property
    def options(self) -> Mapping[str, Any]:
        """A change that does not fit fails the run: without it the state would be another one."""
        return {"max_rejected": 0}

    def __str__(self) -> str:
        return f"{database_shown(self.connection)} slot {self.slot}"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a slot was read: a bookmark.

    Args:
        slot: its name.
        lsn: transactions whose commit lies before it were given.
        at: the latest commit, in microseconds since 1970.
        tables: those that are followed since the snapshot.
    """

    slot: str
    lsn: int
    at: int
    tables: tuple[str, ...]

    def as_bookmark(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"slot": self.slot, "lsn": lsn_text(self.lsn), "at": self.at, "tables": list(self.tables)}

    @classmethod
    def of(cls, bookmark: Any, source: str) -> Position | None:
        """Read a bookmark. Raises DataError: it is another source's."""
        if bookmark is None:
            return None
        try:
            lsn = lsn_number(bookmark["lsn"])
            return cls(str(bookmark["slot"]), lsn, int(bookmark["at"]), tuple(map(str, bookmark["tables"])))
        except (TypeError, KeyError, ValueError):
            raise DataError(
                f'The bookmark of "{source}" is none of a replication slot: {bookmark!r}.',
                hint="give the feed another name",
            ) from None


def lsn_text(lsn: int) -> str:
    """`0/16B3748`, as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """The number of `0/16B3748`. Raises ValueError."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)
