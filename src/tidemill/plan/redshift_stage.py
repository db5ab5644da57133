"""Rows on their way into a table of Redshift's: the columns in which they wait, and how they leave them.

Staged columns are called c0, c1, ...: whatever the user's are called, files and errors are the same. What a format
cannot carry waits as text and is converted when it enters its table.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidemill.model import types as t
from tidemill.model.redshift import Form
from tidemill.model.table import Schema, WriteMode, split_name
from tidemill.plan.landing import quoted_name
from tidemill.plan.redshift import redshift_type, room
from tidemill.plan.sql import quote, quote_all

#: The column that numbers staged rows, in the order in which they came.
NUMBER = "_tidemill_n"
_LONG = "character varying(65535)"


@dataclass(frozen=True, slots=True)
class Staged:
    """A staged column.

    Args:
        name: c0, c1, ...
        type: SQL of its type.
        entered: SQL of its value in the table.
    """

    name: str
    type: str
    entered: str


def staged(columns: Schema, form: Form, lengths: Mapping[str, int]) -> list[Staged]:
    """The staged columns of some rows.

    Args:
        columns: of the rows.
        form: of their files.
        lengths: column -> bytes of the longest value.
    """
    return [
        _staged(f"c{number}", column.type, form, lengths.get(column.name, 0)) for number, column in enumerate(columns)
    ]


def _staged(name: str, kind: t.Type, form: Form, length: int) -> Staged:
    if kind == t.BINARY:
        # JSON and Avro carry no VARBYTE; its digits they do.
        return Staged(name, f"character varying({room(2 * length)})", f"from_hex({name})")
    if isinstance(kind, t.List | t.Map | t.Struct):
        if form in (Form.JSON, Form.JSON_PATHS):
            return Staged(name, "super", name)
        return Staged(name, _LONG, f"json_parse({name})")
    if form is Form.PARQUET and kind == t.TIME:
        return Staged(name, "character varying(16)", f"CAST({name} AS time)")
    if form is Form.PARQUET and kind == t.TIMESTAMPTZ:
        return Staged(name, "timestamp without time zone", f"({name} AT TIME ZONE 'UTC')")
    return Staged(name, redshift_type(kind, length), name)


def create_stage(stage: str, columns: Sequence[Staged]) -> str:
    """The statement that makes a stage, for this session alone."""
    body = ", ".join(f"{column.name} {column.type}" for column in columns)
    return f"CREATE TEMPORARY TABLE {stage} ({body}, {NUMBER} bigint NOT NULL) DISTSTYLE EVEN"


def entering(table: str, stage: str, names: Sequence[str], columns: Sequence[Staged], write: WriteMode) -> list[str]:
    """The statements by which staged rows are appended, or replace all others; the last tells how many did."""
    target = quoted_name(table)
    emptied = [f"DELETE FROM {target}"] if write is WriteMode.REPLACE else []
    values = ", ".join(column.entered for column in columns)
    return [*emptied, f"INSERT INTO {target} ({quote_all(names)}) SELECT {values} FROM {stage}"]


def newest(stage: str, names: Sequence[str], columns: Sequence[Staged], key: Sequence[str], order: str | None) -> str:
    """The statement that keeps the newest row of each key, in a table beside the stage."""
    values = ", ".join(f"{column.entered} AS {quote(name)}" for name, column in zip(names, columns, strict=True))
    rank = "" if order is None else f"{quote(order)} DESC NULLS LAST, "
    ranked = f"row_number() OVER (PARTITION BY {quote_all(key)} ORDER BY {rank}{NUMBER} DESC) AS _tidemill_rank"
    return (
        f"CREATE TEMPORARY TABLE {stage}_newest AS SELECT {quote_all(names)} FROM"
        f" (SELECT {quote_all(names)}, {ranked} FROM (SELECT {values}, {NUMBER} FROM {stage}) AS a) AS b"
        " WHERE _tidemill_rank = 1"
    )


def superseded(table: str, stage: str, key: Sequence[str], order: str | None) -> str:
    """The statement that removes the rows of a table of which the stage has newer ones."""
    older = ""
    if order is not None:
        ours, theirs = f"{_of(table)}.{quote(order)}", f"{stage}_newest.{quote(order)}"
        # Without a rank a row is older than any.
        older = f" AND ({ours} IS NULL OR {theirs} >= {ours})"
    return f"DELETE FROM {quoted_name(table)} USING {stage}_newest WHERE {_same(table, stage, key)}{older}"


def upserted(table: str, stage: str, names: Sequence[str], key: Sequence[str]) -> str:
    """The statement by which rows enter whose keys the table has not, or no more."""
    same = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in key)
    return (
        f"INSERT INTO {quoted_name(table)} ({quote_all(names)}) SELECT {quote_all(names)} FROM {stage}_newest AS s"
        f" WHERE NOT EXISTS (SELECT 1 FROM {quoted_name(table)} AS t WHERE {same})"
    )


def without_batches(table: str, batches: Sequence[int], column: str) -> str:
    """The statement that removes the rows of batches."""
    numbers = ", ".join(str(int(batch)) for batch in batches)
    return f"DELETE FROM {quoted_name(table)} WHERE {quote(column)} IN ({numbers})"


def without_keys(table: str, stage: str, key: Sequence[str], columns: Sequence[Staged]) -> str:
    """The statement that removes the rows whose keys are staged."""
    same = " AND ".join(
        f"{_of(table)}.{quote(name)} = {column.entered}" for name, column in zip(key, columns, strict=True)
    )
    return f"DELETE FROM {quoted_name(table)} USING {stage} WHERE {same}"


def without_key(stage: str, key: Sequence[Staged]) -> str:
    """A query for the number of staged rows that have no key."""
    return f"SELECT count(*) FROM {stage} WHERE " + " OR ".join(f"{column.name} IS NULL" for column in key)


def doubled(table: str, stage: str, key: Sequence[str]) -> str:
    """A query for the number of staged keys that the table has more than once: Redshift enforces none."""
    same = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in key)
    keys = quote_all(key, of="t")
    return (
        f"SELECT count(*) FROM (SELECT {keys} FROM {quoted_name(table)} AS t JOIN {stage}_newest AS s ON {same}"
        f" GROUP BY {keys} HAVING count(*) > 1) AS d"
    )


def _of(table: str) -> str:
    """What columns of a table are called by in a statement on it."""
    return quote(split_name(table)[1])


def _same(table: str, stage: str, key: Sequence[str]) -> str:
    return " AND ".join(f"{_of(table)}.{quote(name)} = {stage}_newest.{quote(name)}" for name in key)
