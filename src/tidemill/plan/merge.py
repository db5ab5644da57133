"""Keyed writes as SQL text: how a batch's rows enter an `upsert` table (rule 7). An engine runs the text.

Every upsert and history table keeps all rows ever given to it in an append-only input table, with `_order`
(the declared column's value or the interval's end), `_batch_id`, `_row` (position in the batch) and `_deleted`. The
table itself is a function of that input, and there are two ways to bring it up to date:

  newest      all rows of the batch rank above everything before: only the batch and the table are read;
  recompute   an older batch, a re-run or a revert: what the touched keys are is computed from the input table.

Either way the flow is: `*_files` names the data files that hold touched keys; these are read as `rewritten`; the
content query gives the rows of the new files; the table loses the named files and gains the new ones. Files without
touched keys are neither read in full nor written.

A row without a value in a key column, or without one in `_order`, cannot be placed: `invalid` gives these rows, with
the reason, for the quarantine; all other queries leave them out, so they can never change a result.

`plan/history.py` does the same for history tables.
"""
# ruff: noqa: S608 - the text is built of identifiers, all of them quoted, and of constants of this module

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.model.cdc import OP, UNCHANGED
from tidemill.model.singer import MARK
from tidemill.model.table import BATCH_ID, DELETED, LOADED_AT, ORDER, ROW
from tidemill.plan.row_versions import AT, Ended, Marks
from tidemill.plan.sql import literal, quote, quote_all

#: Relation: the table, all files, each row with the path of its file in the column `FILE`.
TARGET = "target"
#: Relation: the table's files that a `*_files` query named.
REWRITTEN = "rewritten"
#: Relation: the batch's rows as the input table holds them.
INCOMING = "incoming"
#: Relation: the whole input table, this batch's present rows included.
INPUT = "input"
#: Relation: the input table without this batch.
OTHERS = "others"
#: Relation: rows (of the input table's columns) whose keys are touched.
TOUCHED = "touched"
#: Column of `TARGET`: the data file of the row.
FILE = "_file"
#: Column that `invalid` adds: why the row cannot be placed.
ERROR = "_error"


@dataclass(frozen=True, slots=True)
class Query:
    """SQL text and the relations that it reads (names without a schema)."""

    sql: str
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyedWrite(ABC):
    """What `upsert` and `history` share.

    Args:
        key: columns that identify a row.
        columns: the table's columns in order, system columns included: what a content query gives.
    """

    key: tuple[str, ...]
    columns: tuple[str, ...]
    #: The input is a log of changes, in which a truncate ends all rows before it.
    log: bool = False
    #: Columns of a log that some rows do not bring, because they did not change.
    unsent: tuple[str, ...] = ()
    #: Ends rows of other versions; None: rows have no versions.
    ended: Ended | None = None
    #: Rows of other versions stay, and get these; None: they do not.
    marks: Marks | None = None

    def invalid(self) -> Query:
        """Rows of `INCOMING` that cannot be placed, with the reason in `ERROR`."""
        reasons = [
            *((f"{quote(k)} IS NULL", f'the key column "{k}" is empty') for k in self.key),
            (f"{quote(ORDER)} IS NULL", "the column that orders the rows is empty"),
        ]
        cases = " ".join(f"WHEN {test} THEN {literal(reason)}" for test, reason in reasons)
        wrong = " OR ".join(test for test, _ in reasons)
        wrong = f"({wrong}) AND {quote(OP)} IS DISTINCT FROM 't'" if self.log else wrong
        return Query(f"SELECT *, CASE {cases} END AS {quote(ERROR)} FROM {INCOMING} WHERE {wrong}", (INCOMING,))

    def is_newest(self) -> Query:
        """One boolean: every row of `INCOMING` ranks above every row of `OTHERS`, so that `newest` applies.

        Equal order values answer no: batch ids would have to decide, key by key.
        """
        order = quote(ORDER)
        least, greatest = f"(SELECT min({order}) FROM {INCOMING})", f"(SELECT max({order}) FROM {OTHERS})"
        return Query(f"SELECT coalesce({least} > {greatest}, TRUE) AS newest", (INCOMING, OTHERS))

    def special(self, touched: Sequence[str]) -> Query:
        """Of a log: whether `touched` have a truncate, and whether a row that does not bring all its values."""
        rows = " UNION ALL ".join(f"SELECT {quote_all((OP, UNCHANGED))} FROM {r}" for r in touched)
        return Query(
            f"SELECT coalesce(bool_or({quote(OP)} = 't'), FALSE) AS truncated, "
            f"coalesce(bool_or(len({quote(UNCHANGED)}) > 0), FALSE) AS unsent FROM ({rows}) AS r",
            tuple(touched),
        )

    def missing(self) -> Query:
        """Of a log: the columns that some row of `INPUT` does not bring, in the column `name`."""
        column = quote(UNCHANGED)
        return Query(f"SELECT DISTINCT unnest({column}) AS name FROM {INPUT} WHERE len({column}) > 0", (INPUT,))

    @abstractmethod
    def newest_files(self) -> Query:
        """Paths of the files of `TARGET` that `newest` must rewrite, in the column `FILE`."""

    @abstractmethod
    def newest(self) -> Query:
        """The rows that replace the files `REWRITTEN`, where `is_newest`."""

    def recompute_files(self, touched: Sequence[str] = (TOUCHED,)) -> Query:
        """Paths of the files of `TARGET` that hold a touched key, in the column `FILE`.

        `touched` names relations whose keys are touched: the batch's rows as they are now, and as they were.
        """
        return Query(
            f"SELECT DISTINCT {quote(FILE)} FROM {TARGET} SEMI JOIN ({self._keys(touched)}) AS k {self._using}",
            (TARGET, *touched),
        )

    @abstractmethod
    def recompute(self, touched: Sequence[str] = (TOUCHED,)) -> Query:
        """The rows that replace the files `REWRITTEN`: touched keys are computed anew from `INPUT`."""

    def _given(self, touched: Sequence[str]) -> str:
        """All rows of `INPUT` with touched keys. Of a log, a truncate is a delete of each key, and what a row does not
        bring is what the row before it has.
        """
        keys, rows = self._keys(touched), f"SELECT * FROM {INPUT} SEMI JOIN ({self._keys(touched)}) AS k {self._using}"
        if self.log:
            rank = ", ".join(f"t.{quote(c)}" for c in (ORDER, BATCH_ID, LOADED_AT, ROW))
            rows += (
                f" UNION ALL BY NAME SELECT k.*, {rank}, TRUE AS {quote(DELETED)} FROM ({keys}) AS k "
                f"CROSS JOIN (SELECT * FROM {INPUT} WHERE {quote(OP)} = 't') AS t"
            )
        if not self.unsent:
            return rows
        filled = []
        for name in self.unsent:
            column, is_unsent = quote(name), f"list_contains({quote(UNCHANGED)}, {literal(name)})"
            known = f"last_value(CASE WHEN {is_unsent} THEN NULL ELSE struct_pack(v := {column}) END IGNORE NULLS)"
            filled.append(
                f"CASE WHEN {is_unsent} THEN struct_extract({known} OVER before, 'v') ELSE {column} END AS {column}"
            )
        order = ", ".join(map(quote, (ORDER, BATCH_ID, ROW)))
        return (
            f"SELECT * REPLACE ({', '.join(filled)}) FROM ({rows}) AS s WINDOW before AS (PARTITION BY "
            f"{quote_all(self.key)} ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        )

    @property
    def _using(self) -> str:
        return f"USING ({quote_all(self.key)})"

    @property
    def _placed(self) -> str:
        """The condition that an input row can be placed."""
        return " AND ".join(f"{quote(c)} IS NOT NULL" for c in (*self.key, ORDER))

    def _keys(self, relations: Sequence[str]) -> str:
        """The keys in `relations`. A row that cannot be placed touches nothing, or its key's row would be lost."""
        return " UNION ".join(f"SELECT {quote_all(self.key)} FROM {r} WHERE {self._placed}" for r in relations)


@dataclass(frozen=True, slots=True)
class Upsert(KeyedWrite):
    """One row a key: that with the greatest (order, batch id, row position), none where that row is a delete."""

    def newest_files(self) -> Query:
        """See `KeyedWrite`: also those with rows that the batch ends."""
        files = self.recompute_files((INCOMING,))
        if self.marks is not None:
            other = f"SELECT {quote(FILE)} FROM {TARGET}{self.marks.join} WHERE {self.marks.differs}"
            return Query(f"{files.sql} UNION {other}", files.reads)
        if self.ended is None:
            return files
        ended = f"SELECT {quote(FILE)} FROM {TARGET} WHERE {self.ended.condition}"
        return Query(f"{files.sql} UNION {ended}", files.reads)

    def newest(self) -> Query:
        """See `KeyedWrite`."""
        return Query(self._content(self._last, (INCOMING,)), (REWRITTEN, INCOMING))

    def recompute(self, touched: Sequence[str] = (TOUCHED,)) -> Query:
        """See `KeyedWrite`."""
        rank = ", ".join(f"{quote(c)} DESC" for c in (ORDER, BATCH_ID, ROW))
        winners = (
            f"SELECT * FROM ({self._given(touched)}) AS r WHERE {self._placed} "
            f"QUALIFY row_number() OVER (PARTITION BY {quote_all(self.key)} ORDER BY {rank}) = 1"
        )
        return Query(self._content(winners, touched), (REWRITTEN, INPUT, *touched))

    @property
    def _last(self) -> str:
        """The winners among the rows of one batch, whose positions tell them apart.

        Only what decides is ranked, for a window holds its rows: of 1M rows of 17 columns, whole ones took 209 MB and
        1.8 s of CPU time, this 129 MB and 1.3 s. A window over the candidates took 0.04 s for 100k rows; `max_by` of a
        struct 0.13 s, and more memory than either.
        """
        deciding = quote_all(dict.fromkeys((*self.key, ORDER, ROW)))
        rank = ", ".join(f"{quote(c)} DESC" for c in (ORDER, ROW))
        return (
            f"SELECT * FROM {INCOMING} SEMI JOIN (\n"
            f"    SELECT {quote(ROW)} FROM (SELECT {deciding} FROM {INCOMING} WHERE {self._placed}) AS r\n"
            f"    QUALIFY row_number() OVER (PARTITION BY {quote_all(self.key)} ORDER BY {rank}) = 1\n"
            f"  ) AS last USING ({quote(ROW)})"
        )

    def _content(self, winners: str, touched: Sequence[str]) -> str:
        """What stays of `REWRITTEN`, and `winners`: a row for each key."""
        columns, join = quote_all(self.columns), ""
        if self.marks is not None:
            columns = ", ".join(f"{AT} AS {quote(c)}" if c == MARK else quote(c) for c in self.columns)
            join = self.marks.join
        ended = "FALSE" if self.ended is None or self.marks is not None else self.ended.condition
        return (
            f"SELECT {columns} FROM {REWRITTEN} ANTI JOIN ({self._keys(touched)}) AS k {self._using}{join} "
            f"WHERE NOT {ended}\n"
            f"UNION ALL\n"
            f"SELECT {columns} FROM (\n"
            f"  {winners}\n"
            f") AS winners{join} WHERE {quote(DELETED)} IS NOT TRUE AND NOT {ended}"
        )
