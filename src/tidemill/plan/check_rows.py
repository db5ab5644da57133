"""Row checks as Polars expressions, for the types that a table's columns have; and whether a check fits them."""

from __future__ import annotations

import warnings
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from tidemill.model.errors import DefinitionError
from tidemill.model.expectation import (
    BetweenExpectation,
    ConditionExpectation,
    Expectation,
    Figure,
    FigureExpectation,
    InSetExpectation,
    MatchesExpectation,
    NotNullExpectation,
    RowExpectation,
)


def condition_of(check: RowExpectation, schema: pl.Schema) -> pl.Expr:
    """The expression that says of each row whether it passes; null where the row is left out."""
    if isinstance(check, NotNullExpectation):
        return pl.all_horizontal(pl.col(c).is_not_null() for c in check.on)
    answer = _answer(check, schema)
    return answer.fill_null(False) if check.null_fails else answer


def failing_of(check: RowExpectation, schema: pl.Schema) -> pl.Expr:
    """The expression that says of each row whether it fails; never null: a row that is left out does not."""
    return (~condition_of(check, schema)).fill_null(False)


def _answer(check: RowExpectation, schema: pl.Schema) -> pl.Expr:
    """A column that has held nulls only has no type yet; what cannot be asked of it has no answer."""
    untyped = [c for c in check.columns if schema[c] == pl.Null]
    if untyped and not (isinstance(check, ConditionExpectation) and _runs(check.condition, schema)):
        return pl.col(untyped[0]).cast(pl.Boolean)
    match check:
        case ConditionExpectation():
            return check.condition
        case InSetExpectation(on=(column,), values=values):
            return _in_set(pl.col(column), values, schema[column])
        case BetweenExpectation(on=(column,)):
            return _between(pl.col(column), check, schema[column])
        case MatchesExpectation(on=(column,), pattern=pattern):
            return pl.col(column).cast(pl.String).str.contains(pattern)
    raise AssertionError(f"a row check without a condition: {type(check).__name__}")


def _in_set(column: pl.Expr, values: tuple[Any, ...] | None, kind: pl.DataType) -> pl.Expr:
    if values is None:
        return pl.when(column.is_not_null()).then(True)
    listed = [v for v in values if v is not None]
    if kind.is_integer() and any(isinstance(v, float) for v in listed):
        column, kind = column.cast(pl.Float64), pl.Float64()
    if isinstance(kind, pl.Categorical | pl.Enum):
        column, kind = column.cast(pl.String), pl.String()
    # The set gets the column's type: Polars looks for no integers among floats.
    return column.is_in(pl.Series(listed, dtype=kind, strict=True).implode())


def _between(column: pl.Expr, check: BetweenExpectation, kind: pl.DataType) -> pl.Expr:
    tests = [column.is_not_nan()] if kind.is_float() else []
    if check.minimum is not None:
        least = _bound(check.minimum, kind)
        tests.append(column > least if check.strict_min else column >= least)
    if check.maximum is not None:
        greatest = _bound(check.maximum, kind)
        tests.append(column < greatest if check.strict_max else column <= greatest)
    answer = tests[0]
    for test in tests[1:]:
        answer = answer & test
    return answer


def _bound(value: Any, kind: pl.DataType) -> pl.Expr:
    """A bound as a literal: ISO text for a time column, and a zone where only one of the two has one (UTC)."""
    if isinstance(kind, pl.Date | pl.Datetime) and isinstance(value, str):
        value = datetime.fromisoformat(value) if isinstance(kind, pl.Datetime) else date.fromisoformat(value)
    if isinstance(kind, pl.Datetime) and isinstance(value, datetime):
        if kind.time_zone and value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        elif not kind.time_zone and value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
    return pl.lit(value)


def gives_one_value(check: ConditionExpectation, schema: pl.Schema) -> bool:
    """Whether the expression gives a single value for all rows, such as `tm.col("x").mean() < 3`."""
    return _probe(schema).select(condition_of(check, schema)).height == 1


def _runs(expr: pl.Expr, schema: pl.Schema) -> bool:
    try:
        _probe(schema).select(expr)
    except pl.exceptions.PolarsError:
        return False
    return True


def _probe(schema: pl.Schema) -> pl.DataFrame:
    """Two rows of nulls: enough to find types that do not fit, and whether a result is single."""
    return pl.DataFrame({name: [None, None] for name in schema}, schema=schema)


def check_fits(check: Expectation, schema: pl.Schema, where: str) -> None:
    """See that a check fits the types of its columns.

    Raises:
        DefinitionError: it does not, its pattern is no regular expression, or its expression is not boolean.
    """
    if isinstance(check, FigureExpectation) and check.figure is Figure.AGE:
        kind = schema[str(check.column)]
        if not isinstance(kind, pl.Date | pl.Datetime | pl.Null):
            raise DefinitionError(f'"{check.column}" is no time: its type is {kind}.', where=where)
    if not isinstance(check, RowExpectation):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(check, MatchesExpectation):
                pl.Series([""]).str.contains(check.pattern)
            made = _probe(schema).select(condition_of(check, schema).alias("answer"))["answer"].dtype
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        kinds = ", ".join(f"{c} {schema[c]}" for c in check.columns)
        raise DefinitionError(
            f'Check "{check.name}" cannot be computed: {lines[0].rstrip(".:")}.', where=where, hint=f"columns: {kinds}"
        ) from error
    if made not in (pl.Boolean, pl.Null):
        raise DefinitionError(
            f'Check "{check.name}" gives {made}, not true or false.', where=where, hint="compare: tm.col(...) > 0"
        )
