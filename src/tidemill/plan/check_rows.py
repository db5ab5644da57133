"""Row checks as Polars expressions: true, false, or null where a row is left out. And whether a check fits a table."""

from __future__ import annotations

import warnings
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

import polars as pl

from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.expectation import (
    Between,
    Check,
    Expression,
    FreshWithin,
    InSet,
    Matches,
    NotNull,
    References,
    RowCount,
    Unique,
)
from tidemill.model.table import TableName

#: Checks that judge each row.
RowCheck: TypeAlias = "Expression | NotNull | InSet | Between | Matches"


def passes(check: RowCheck, schema: pl.Schema) -> pl.Expr:
    """The expression that says of each row whether it passes."""
    if isinstance(check, NotNull):
        return pl.all_horizontal(pl.col(c).is_not_null() for c in check.columns)
    ok = _answer(check, schema)
    return ok.fill_null(False) if check.null_fails else ok


def _answer(check: Expression | InSet | Between | Matches, schema: pl.Schema) -> pl.Expr:
    """A column that has held nulls only has no type yet; what cannot be asked of it has no answer."""
    untyped = [c for c in columns_of(check) if schema[c] == pl.Null]
    if untyped and not (isinstance(check, Expression) and _runs(check.expr, schema)):
        return pl.col(untyped[0]).cast(pl.Boolean)
    match check:
        case Expression():
            return check.expr
        case InSet():
            return _in_set(check, schema[check.column])
        case Between():
            return _between(check, schema[check.column])
    return pl.col(check.column).str.contains(check.pattern)


def _runs(expr: pl.Expr, schema: pl.Schema) -> bool:
    try:
        _probe(schema).select(expr)
    except pl.exceptions.PolarsError:
        return False
    return True


def _probe(schema: pl.Schema) -> pl.DataFrame:
    """Two rows of nulls: enough to find unknown columns, types that do not fit, and whether a result is single."""
    return pl.DataFrame({name: [None, None] for name in schema}, schema=schema)


def _in_set(check: InSet, kind: pl.DataType) -> pl.Expr:
    column = pl.col(check.column)
    if check.values is None:
        return pl.when(column.is_not_null()).then(True)
    values = [v for v in check.values if v is not None]
    if kind.is_integer() and any(isinstance(v, float) for v in values):
        column, kind = column.cast(pl.Float64), pl.Float64()
    if isinstance(kind, pl.Categorical | pl.Enum):
        column, kind = column.cast(pl.String), pl.String()
    # Membership is asked of a list that has the column's type: Polars refuses integers among floats.
    return column.is_in(pl.Series(values, dtype=kind, strict=True).implode())


def _between(check: Between, kind: pl.DataType) -> pl.Expr:
    column = pl.col(check.column)
    tests = [column.is_not_nan()] if kind.is_float() else []
    if check.min is not None:
        least = _bound(check.min, kind)
        tests.append(column > least if check.strict_min else column >= least)
    if check.max is not None:
        greatest = _bound(check.max, kind)
        tests.append(column < greatest if check.strict_max else column <= greatest)
    ok = tests[0]
    for test in tests[1:]:
        ok = ok & test
    return ok


def _bound(value: Any, kind: pl.DataType) -> pl.Expr:
    """A bound as a literal: ISO text for a time column, and a zone where only one of the two has one (UTC)."""
    if kind.is_temporal() and isinstance(value, str):
        value = datetime.fromisoformat(value) if isinstance(kind, pl.Datetime) else date.fromisoformat(value)
    if isinstance(kind, pl.Datetime) and isinstance(value, datetime):
        if kind.time_zone and value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        elif not kind.time_zone and value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
    return pl.lit(value)


def check_columns(check: Check, table: TableName, schema: pl.Schema) -> bool:
    """See that a check fits the columns of `table`. True where its expression gives a single value for all rows.

    Raises:
        UnknownName: the table lacks a column.
        DefinitionError: the types do not fit, or the expression is not boolean.
    """
    where = f'check "{check.name}" of {table}'
    for column in columns_of(check):
        if column not in schema:
            raise UnknownName.of(f"column of {table}", column, schema, where=where)
    match check:
        case RowCount() | Unique() | References():
            return False
        case FreshWithin():
            if not isinstance(schema[check.column], pl.Date | pl.Datetime):
                kind = schema[check.column]
                raise DefinitionError(f'"{check.column}" is no time: its type is {kind}.', where=where)
            return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(check, Matches):
                pl.Series([""]).str.contains(check.pattern)
            made = _probe(schema).select(passes(check, schema).alias("ok"))
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise DefinitionError(
            f'Check "{check.name}" does not fit {table}: {_first_line(error)}.', where=where, hint=_types(check, schema)
        ) from error
    if made["ok"].dtype not in (pl.Boolean, pl.Null):
        raise DefinitionError(
            f'Check "{check.name}" of {table} gives {made["ok"].dtype}, not true or false.',
            where=where,
            hint="compare: expect(tm.col(...) > 0)",
        )
    return isinstance(check, Expression) and made.height == 1


def columns_of(check: Check) -> tuple[str, ...]:
    """The columns that a check reads."""
    match check:
        case Expression():
            return tuple(check.expr.meta.root_names())
        case NotNull() | Unique() | References():
            return check.columns
        case RowCount():
            return ()
    return (check.column,)


def _types(check: Check, schema: pl.Schema) -> str:
    return "its columns are " + ", ".join(f"{c} {schema[c]}" for c in columns_of(check))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__
