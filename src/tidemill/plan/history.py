"""Slowly changing dimensions, type 2, as SQL text: every version of a key with `valid_from, valid_to, is_current`.

Stands beside `plan/merge.py` and follows its flow. The versions of a key are a function of its input rows:

  1. among rows with the same order value only the last counts (greatest batch id, then row position);
  2. a row starts a version where its attributes differ from those of the row before, or where that was a delete;
     rows that repeat the attributes before them belong to the version before;
  3. a version is valid from its first row's order value up to, not including, the next start or delete.

So a late row splits the version that it falls into, and the clock is never asked. Attributes are all columns but the
key, the order column, the columns of this module, `_batch_id` and `_loaded_at`; a version has those of its first row.
"""
# ruff: noqa: S608 - the text is built of identifiers, all of them quoted, and of constants of this module

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.model.errors import DefinitionError
from tidemill.model.table import BATCH_ID, DELETED, LOADED_AT, ORDER, ROW, SYSTEM_COLUMNS, Column, Schema, TableSpec
from tidemill.model.types import BOOLEAN, STRING, Type
from tidemill.plan.merge import FILE, INCOMING, INPUT, REWRITTEN, TARGET, TOUCHED, KeyedWrite, Query
from tidemill.plan.sql import quote, quote_all

VALID_FROM = "valid_from"
VALID_TO = "valid_to"
IS_CURRENT = "is_current"

_FIRST, _ENDS, _NEW = "_tidemill_first", "_tidemill_ends", "_tidemill_new"


def history_schema(schema: Schema, order: Type, surrogate_key: str | None = None) -> Schema:
    """The columns of a history table whose input has the columns `schema` and order values of type `order`.

    Raises:
        DefinitionError: the input has a column of a name that the history needs.
    """
    added = [Column(VALID_FROM, order), Column(VALID_TO, order), Column(IS_CURRENT, BOOLEAN)]
    if surrogate_key:
        added.insert(0, Column(surrogate_key, STRING))
    taken = {c.name.lower() for c in schema}
    for column in added:
        if column.name.lower() in taken:
            raise DefinitionError(
                f'A history table adds the column "{column.name}", which the data has already.',
                hint="rename the column of the data",
            )
    business = schema.without(c.name for c in SYSTEM_COLUMNS)
    return Schema((*business.columns, *added, *SYSTEM_COLUMNS))


@dataclass(frozen=True, slots=True)
class History(KeyedWrite):
    """Every version of a key.

    Args:
        order: the declared order column, which is no attribute; None where the interval's end is the order.
        surrogate_key: the column for the version's own key: 32 hexadecimal digits, the MD5 of the key's values and
            `valid_from` as text. It depends on nothing else, so a recompute gives the same keys again.
    """

    order: str | None = None
    surrogate_key: str | None = None

    @classmethod
    def of(cls, spec: TableSpec, columns: Sequence[str]) -> History:
        """The write of a declared table that has `columns`."""
        return cls(spec.key, tuple(columns), spec.changes, order=spec.order, surrogate_key=spec.surrogate_key)

    def newest_files(self) -> Query:
        """See `KeyedWrite`: files with the current version of a key that changes."""
        return Query(
            f"WITH {self._newest_versions()}\n"
            f"SELECT DISTINCT {quote(FILE)} FROM {TARGET} SEMI JOIN changed {self._using} WHERE {quote(IS_CURRENT)}",
            (TARGET, INCOMING),
        )

    def newest(self) -> Query:
        """See `KeyedWrite`. Keys whose attributes are as before cost no rewriting."""
        kept, current = f"SELECT {quote_all(self.columns)} FROM {REWRITTEN}", quote(IS_CURRENT)
        return Query(
            f"WITH {self._newest_versions()}\n"
            f"{kept} WHERE NOT {current}\n"
            f"UNION ALL\n"
            f"{kept} ANTI JOIN changed {self._using} WHERE {current}\n"
            f"UNION ALL\n"
            f"{self._made('versions SEMI JOIN changed ' + self._using)}",
            (TARGET, REWRITTEN, INCOMING),
        )

    def recompute(self, touched: Sequence[str] = (TOUCHED,)) -> Query:
        """See `KeyedWrite`."""
        rows = f"SELECT {self._inputs}, TRUE AS {_NEW} FROM ({self._given(touched)}) AS given WHERE {self._placed}"
        return Query(
            f"WITH {self._versions(rows)}\n"
            f"SELECT {quote_all(self.columns)} FROM {REWRITTEN} ANTI JOIN ({self._keys(touched)}) AS k {self._using}\n"
            f"UNION ALL\n"
            f"{self._made('versions')}",
            (REWRITTEN, INPUT, *touched),
        )

    @property
    def _own(self) -> tuple[str, ...]:
        """Columns that this module makes."""
        made = (VALID_FROM, VALID_TO, IS_CURRENT)
        return (*made, self.surrogate_key) if self.surrogate_key else made

    @property
    def _carried(self) -> tuple[str, ...]:
        """Columns that a version takes from its first row as they are."""
        return tuple(c for c in self.columns if c not in self._own)

    @property
    def _attributes(self) -> tuple[str, ...]:
        apart = {*self.key, self.order, BATCH_ID, LOADED_AT}
        return tuple(c for c in self._carried if c not in apart)

    @property
    def _inputs(self) -> str:
        """Columns of an input row that decide."""
        return f"{quote_all(self._carried)}, {quote(ORDER)}, {quote(ROW)}, {quote(DELETED)} IS TRUE AS {quote(DELETED)}"

    def _newest_versions(self) -> str:
        """The versions from the current one on, for keys in the batch; `changed`: the keys for which one is new."""
        rows = (
            f"SELECT {quote_all(self._carried)}, {quote(VALID_FROM)} AS {quote(ORDER)}, 0 AS {quote(ROW)}, "
            f"FALSE AS {quote(DELETED)}, FALSE AS {_NEW} "
            f"FROM {TARGET} SEMI JOIN {INCOMING} {self._using} WHERE {quote(IS_CURRENT)} "
            f"UNION ALL SELECT {self._inputs}, TRUE FROM {INCOMING} WHERE {self._placed}"
        )
        return f"{self._versions(rows)},\nchanged AS (SELECT DISTINCT {quote_all(self.key)} FROM versions WHERE {_NEW})"

    def _versions(self, rows: str) -> str:
        """The body of a WITH whose `versions` are the starts of versions, and of deletes, among `rows`."""
        key, order, deleted = quote_all(self.key), quote(ORDER), quote(DELETED)
        last = f"PARTITION BY {key}, {order} ORDER BY {quote(BATCH_ID)} DESC, {quote(ROW)} DESC"
        first = ["row_number() OVER along = 1", f"{deleted} <> lag({deleted}) OVER along"]
        first += [f"{quote(a)} IS DISTINCT FROM lag({quote(a)}) OVER along" for a in self._attributes]
        along = f"PARTITION BY {key} ORDER BY {order}"
        return (
            f"counted AS (SELECT * FROM ({rows}) AS r QUALIFY row_number() OVER ({last}) = 1),\n"
            f"marked AS (SELECT *, ({' OR '.join(first)}) AS {_FIRST} FROM counted WINDOW along AS ({along})),\n"
            f"versions AS (SELECT *, lead({order}) OVER ({along}) AS {_ENDS} FROM marked WHERE {_FIRST})"
        )

    def _made(self, versions: str) -> str:
        """The SELECT that makes rows of the table from `versions`."""
        values = {
            VALID_FROM: quote(ORDER),
            VALID_TO: _ENDS,
            IS_CURRENT: f"{_ENDS} IS NULL",
        }
        if self.surrogate_key:
            values[self.surrogate_key] = self._surrogate()
        chosen = ", ".join(f"{values[c]} AS {quote(c)}" if c in values else quote(c) for c in self.columns)
        return f"SELECT {chosen} FROM {versions} WHERE NOT {quote(DELETED)}"

    def _surrogate(self) -> str:
        """MD5 over each part as `<bytes>:<text>`: no two lists of parts give the same text."""
        parts = [f"CAST({quote(c)} AS VARCHAR)" for c in (*self.key, ORDER)]
        return "md5(" + " || ".join(f"strlen({p}) || ':' || {p}" for p in parts) + ")"
