"""The log of a table as record batches: its own columns, and beside them what happened, when, and where in the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tidemill.adapters.databases.database import Column
from tidemill.adapters.databases.pgoutput import Changes, RelationMessage, Transactions
from tidemill.adapters.databases.pgtext import typed
from tidemill.adapters.databases.postgres import column_of
from tidemill.adapters.databases.slots import Server, check_identity
from tidemill.model.cdc import CHANGES, COMMITTED_AT, LOG_COLUMNS, LSN, OP, SEQUENCE, UNCHANGED, XID, Cdc, FollowedTable
from tidemill.model.errors import DataError

_TIME = pa.timestamp("us", "UTC")
_LOG = (
    pa.field(OP, pa.string()), pa.field(LSN, pa.int64()), pa.field(SEQUENCE, pa.int64()), pa.field(XID, pa.int64()),
    pa.field(COMMITTED_AT, _TIME), pa.field(UNCHANGED, pa.list_(pa.string())),
)  # fmt: skip
_TRANSACTIONS = pa.schema([
    pa.field(LSN, pa.int64()), pa.field(XID, pa.int64()), pa.field(COMMITTED_AT, _TIME), pa.field(CHANGES, pa.int64())
])  # fmt: skip
_LETTERS = "ruidt"
_NUMBER = np.zeros(256, np.int8)
for _at, _letter in enumerate(_LETTERS):
    _NUMBER[ord(_letter)] = _at


@dataclass(frozen=True, slots=True)
class Log:
    """The shape of a table's log: its columns as they are read."""

    columns: tuple[Column, ...]
    schema: pa.Schema

    def empty(self) -> pa.RecordBatch:
        """No rows."""
        return pa.RecordBatch.from_pylist([], schema=self.schema)

    def snapshot(self, rows: pa.RecordBatch, lsn: int, at: int, first: int) -> pa.RecordBatch:
        """Rows that were there, numbered from `first`."""
        count = rows.num_rows
        return self._with(
            rows.columns, np.full(count, ord("r"), np.uint8), np.full(count, lsn), np.arange(first, first + count),
            None, np.full(count, at), None,
        )  # fmt: skip

    def truncated(self, lsn: int, at: int) -> pa.RecordBatch:
        """One row, before all of the snapshot: what was there is gone."""
        nulls = [pa.nulls(1, column.kind) for column in self.columns]
        return self._with(
            nulls, np.full(1, ord("t"), np.uint8), np.full(1, lsn), np.full(1, -1), None, np.full(1, at), None
        )

    def changed(self, changes: Changes) -> pa.RecordBatch:
        """Changes of its table."""
        values = [
            typed(texts.array(changes.data), column.kind, column.name, column.declared)
            for column, texts in zip(self.columns, changes.columns, strict=True)
        ]
        return self._with(
            values, changes.op, changes.lsn, changes.sequence, changes.xid, changes.committed_at, self._unsent(changes)
        )

    def _unsent(self, changes: Changes) -> pa.Array | None:
        """The columns that each row does not bring; None: all rows bring all."""
        found: dict[int, list[str]] = {}
        for column, texts in zip(self.columns, changes.columns, strict=True):
            for row in np.flatnonzero(texts.is_unchanged).tolist():
                found.setdefault(row, []).append(column.name)
        if not found:
            return None
        return pa.array([found.get(row) for row in range(len(changes))], pa.list_(pa.string()))

    def _with(
        self, values: Sequence[pa.Array], op: Any, lsn: Any, sequence: Any, xid: Any, at: Any, unsent: pa.Array | None
    ) -> pa.RecordBatch:
        count = len(op)
        letters = pa.DictionaryArray.from_arrays(pa.array(_NUMBER[op]), pa.array(list(_LETTERS))).cast(pa.string())
        nulls = pa.nulls(count, pa.list_(pa.string()))
        beside = [
            letters, pa.array(lsn, pa.int64()), pa.array(sequence, pa.int64()),
            pa.nulls(count, pa.int64()) if xid is None else pa.array(xid, pa.int64()),
            pa.array(at, pa.int64()).cast(_TIME), nulls if unsent is None else unsent,
        ]  # fmt: skip
        return pa.RecordBatch.from_arrays([*values, *beside], schema=self.schema)


def log_of(table: FollowedTable, columns: Sequence[Column]) -> Log:
    """The log of a table with these columns.

    Raises:
        DataError: it lacks a column of its key, or has one that a log needs for itself.
    """
    names = {column.name.lower() for column in columns}
    for name in LOG_COLUMNS:
        if name in names:
            raise DataError(
                f'"{table.name}" has a column "{name}", which its log has for itself.',
                hint="rename it there, or publish the table without it",
            )
    for name in table.key:
        if name not in {column.name for column in columns}:
            raise DataError(
                f'"{table.name}" has no column "{name}", which is its key.',
                hint="columns: " + ", ".join(column.name for column in columns),
            )
    fields = [pa.field(column.name, column.kind) for column in columns]
    return Log(tuple(columns), pa.schema([*fields, *_LOG]))


class _Found(NamedTuple):
    """What `column_of` asks of a column."""

    name: str
    type_code: int
    type_display: str
    precision: int | None
    scale: int | None


class Tables:
    """The logs of the followed tables, by the forms that their relations have.

    Args:
        source: what is followed.
        server: knows the types that users have made.
    """

    def __init__(self, source: Cdc, server: Server) -> None:
        self._by_name = {table.name: table for table in source.tables}
        self._server = server
        self._logs: dict[RelationMessage, Log] = {}

    def batch(self, changes: Changes) -> pa.RecordBatch:
        """Changes as rows of their table's log."""
        return self.log(changes.relation).changed(changes)

    def log(self, relation: RelationMessage) -> Log:
        """The shape of a relation's log."""
        if relation not in self._logs:
            table = self._by_name[relation.table]
            check_identity(table, relation.identity, [c.name for c in relation.columns if c.is_key])
            self._logs[relation] = log_of(table, columns_of(relation, self._server))
        return self._logs[relation]

    @staticmethod
    def transactions(ended: Transactions) -> pa.RecordBatch:
        """Transactions as rows."""
        return _transactions(ended.lsn, ended.xid, ended.committed_at, ended.changes)


def columns_of(relation: RelationMessage, server: Server) -> list[Column]:
    """How a relation's columns are read: as a read of the table by COPY would."""
    import psycopg

    types = server.types(relation.columns)
    made = []
    for number, column in enumerate(relation.columns):
        oid, modifier, declared, is_array = types.get(number, (0, -1, "a type that is gone", False))
        known = psycopg.postgres.types.get(oid)
        precision = scale = None
        if known is not None and known.name == "numeric" and modifier >= 4:
            precision = (modifier - 4) >> 16 & 0xFFFF
            scale = ((modifier - 4 & 0x7FF) ^ 0x400) - 0x400
        found = _Found(column.name, oid, declared, precision, scale)
        made.append(column_of(found, known, is_array=is_array and known is None, nullable=True, number=number))
    return made


def snapshot_transaction(lsn: int, at: int, changes: int) -> pa.RecordBatch:
    """The row that stands for a snapshot: one without a number."""
    return _transactions(np.full(1, lsn), None, np.full(1, at), np.full(1, changes))


def _transactions(lsn: Any, xid: Any, at: Any, changes: Any) -> pa.RecordBatch:
    values = [
        pa.array(lsn, pa.int64()),
        pa.nulls(len(lsn), pa.int64()) if xid is None else pa.array(xid, pa.int64()),
        pa.array(at, pa.int64()).cast(_TIME),
        pa.array(changes, pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(values, schema=_TRANSACTIONS)
